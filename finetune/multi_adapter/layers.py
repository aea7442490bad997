"""Several LoRA adapters over one frozen base, trained in one batch: each token through its own.

A layer's adapters stand in two matrices (see `engines.local.lora_mask`), and what each adapter
alone would learn from its tokens is what it learns here. B is kept transposed: an adapter's part of
it is then one piece of memory, as fused optimisers want it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from domainlift.errors import Misuse, NoSuch
from engines.local.lora_mask import BASE, AdapterMask, RankLayout
from engines.local.plain_lora import lora_extension

if TYPE_CHECKING:
    from peft import LoraConfig

_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."


class JointLinear(nn.Module):
    """A linear layer with the adapters of several domains over it; x is (batch, tokens, in)."""

    def __init__(
        self, base: nn.Linear, layout: RankLayout, route: AdapterMask, dropout: float
    ) -> None:
        super().__init__()
        self.base = base
        self.layout = layout
        self._route = route
        self._dropout = dropout
        total = sum(rank for rank, _ in layout.parts)
        place: dict[str, Any] = {"device": base.weight.device, "dtype": torch.float32}
        self.a = nn.Parameter(torch.zeros(total, base.in_features, **place))
        self.b = nn.Parameter(torch.zeros(total, base.out_features, **place))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """The base's output plus each token's own adapter's."""
        y: torch.Tensor = self.base(x)
        seen = nn.functional.dropout(x.to(self.a.dtype), self._dropout, self.training)
        inner = nn.functional.linear(seen, self.a) * self._route.mask(self.layout, self.a.dtype)
        return y + (inner @ self.b).to(y.dtype)


class Joint:
    """Adapters by name over a model, whose layers are replaced in place until `detach`."""

    def __init__(self, model: nn.Module, configs: Mapping[str, LoraConfig]) -> None:
        """Put fresh adapters on, initialised as PEFT does; Misuse for more than plain LoRA.

        Each adapter's numbers are drawn one after another, so seed before.
        """
        self.model = model
        self.names = tuple(configs)
        self.configs = dict(configs)
        self._route = AdapterMask()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self.layers = _attach(model, list(configs.values()), self._route)

    @contextmanager
    def using(self, adapters: torch.Tensor | Sequence[str | None] | str | None) -> Iterator[None]:
        """Choose for the block: one name for all, one per row, or indices (batch, tokens).

        None is the base model alone. Recomputed activations ask again, so hold this around the
        backward pass too where a model recomputes them.
        """
        with self._route.set(self._index(adapters)):
            yield

    def parameters(self) -> list[nn.Parameter]:
        """What can be trained: A and B of each layer, of all adapters together."""
        return [weight for layer in self.layers.values() for weight in (layer.a, layer.b)]

    def parts(self, name: str) -> Iterator[tuple[str, torch.Tensor, torch.Tensor]]:
        """An adapter's layers as views: name, A (r, in), B (out, r)."""
        adapter = self._number(name)
        for shown, layer in self.layers.items():
            ranks = layer.layout.ranks(adapter)
            if ranks.stop > ranks.start:
                yield shown, layer.a.detach()[ranks], layer.b.detach()[ranks].T

    def weights(self, name: str) -> dict[str, torch.Tensor]:
        """An adapter's matrices as views, under the names that PEFT gives them in a file."""
        return {key: each for layer, *both in self.parts(name) for key, each in _keyed(layer, both)}

    def gradients(self, name: str) -> dict[str, torch.Tensor]:
        """An adapter's own gradients likewise, so that each can be clipped by its own norm."""
        adapter = self._number(name)
        found: dict[str, torch.Tensor] = {}
        for shown, layer in self.layers.items():
            ranks = layer.layout.ranks(adapter)
            if layer.a.grad is not None and layer.b.grad is not None and ranks.stop > ranks.start:
                found.update(_keyed(shown, (layer.a.grad[ranks], layer.b.grad[ranks].T)))
        return found

    def detach(self) -> nn.Module:
        """Take the adapters off again and return the model as it was, still frozen."""
        for name, layer in self.layers.items():
            _replace(self.model, name, layer.base)
        self.layers = {}
        return self.model

    def _index(self, adapters: torch.Tensor | Sequence[str | None] | str | None) -> torch.Tensor:
        device = next(self.model.parameters()).device
        if isinstance(adapters, torch.Tensor):
            if adapters.numel() and not BASE <= int(adapters.min()) <= int(adapters.max()) < len(
                self.names
            ):
                raise Misuse(f"an adapter's index is not from -1 to {len(self.names) - 1}")
            return adapters.to(device)
        rows = [adapters] if adapters is None or isinstance(adapters, str) else adapters
        return torch.tensor(
            [BASE if row is None else self._number(row) for row in rows], device=device
        )

    def _number(self, name: str) -> int:
        if name not in self.names:
            raise NoSuch("adapter in this model", name, self.names)
        return self.names.index(name)


def from_peft(model: nn.Module, folders: Mapping[str, Path]) -> Joint:
    """Load adapters that PEFT wrote, by name; Misuse where one does not fit."""
    from peft import LoraConfig
    from safetensors.torch import load_file

    configs = {name: LoraConfig.from_pretrained(str(path)) for name, path in folders.items()}
    joint = Joint(model, configs)
    for name, folder in folders.items():
        found = load_file(folder / _WEIGHTS)
        with torch.no_grad():
            for key, target in joint.weights(name).items():
                if key not in found or found[key].shape != target.shape:
                    raise Misuse(f"`{folder}` has no weight `{key}` that fits the model")
                target.copy_(found.pop(key))
        if found:
            raise Misuse(f"`{folder}` has the weight `{min(found)}`, which has no place here")
    return joint


def split_adapters(joint: Joint, folders: Mapping[str, Path]) -> None:
    """Write adapters by name into folders, each as PEFT would write it."""
    from safetensors.torch import save_file

    from domainlift.files import disk_errors

    for name, folder in folders.items():
        # A clone of B would lie in memory as B does, which safetensors refuses.
        weights = {key: weight.contiguous() for key, weight in joint.weights(name).items()}
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            save_file(weights, folder / _WEIGHTS, metadata={"format": "pt"})
            joint.configs[name].save_pretrained(str(folder))


def _keyed(layer: str, both: Sequence[torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
    for kind, each in zip("AB", both, strict=True):
        yield f"{_PREFIX}{layer}.lora_{kind}.weight", each


def _attach(
    model: nn.Module, configs: Sequence[LoraConfig], route: AdapterMask
) -> dict[str, JointLinear]:
    chosen = [_targets(model, config) for config in configs]
    dropouts = {config.lora_dropout for config in configs}
    if len(dropouts) != 1:
        raise Misuse("joint adapters need one `lora_dropout` for all", "train them by themselves")
    layers = {}
    for name, module in list(model.named_modules()):
        if not any(name in targets for targets in chosen):
            continue
        parts = tuple(
            (config.r, _scale(config)) if name in targets else (0, 0.0)
            for config, targets in zip(configs, chosen, strict=True)
        )
        layers[name] = JointLinear(module, RankLayout(parts), route, *dropouts)
        _replace(model, name, layers[name])
    for adapter in range(len(configs)):
        for layer in layers.values():
            _initialise(layer, adapter)
    return layers


def _initialise(layer: JointLinear, adapter: int) -> None:
    """B stays zero; A is drawn as PEFT draws it, Kaiming-uniform with a = sqrt(5)."""
    ranks = layer.layout.ranks(adapter)
    if ranks.stop > ranks.start:
        with torch.no_grad():
            nn.init.kaiming_uniform_(layer.a[ranks], a=5**0.5)


def _targets(model: nn.Module, config: LoraConfig) -> set[str]:
    """The linear layers that a configuration names, by PEFT's own rules."""
    from peft.tuners.tuners_utils import check_target_module_exists

    _refuse_more(config)
    modules = dict(model.named_modules())
    if config.target_modules == "all-linear":
        head = getattr(model, "get_output_embeddings", lambda: None)()
        linear = (name for name, module in modules.items() if isinstance(module, nn.Linear))
        return {name for name in linear if modules[name] is not head}
    found = {name for name in modules if name and check_target_module_exists(config, name)}
    for name in found:
        if not isinstance(modules[name], nn.Linear):
            raise Misuse(f"`{name}` is not a linear layer, and only those take joint adapters")
    return found


def _refuse_more(config: LoraConfig) -> None:
    """Raise Misuse for more than plain LoRA of one rank and scale."""
    extension = lora_extension(vars(config))
    if extension is not None:
        raise Misuse(f"joint adapters are plain LoRA, without {extension}", "train it by itself")
    for key in ("rank_pattern", "alpha_pattern"):
        if getattr(config, key):
            raise Misuse(f"joint adapters have one rank and scale each, without `{key}`")
    if not config.target_modules:
        raise Misuse("a joint adapter needs `target_modules`", "name them, or say `all-linear`")


def _scale(config: LoraConfig) -> float:
    return float(config.lora_alpha / (config.r**0.5 if config.use_rslora else config.r))


def _replace(model: nn.Module, name: str, module: nn.Module) -> None:
    parent, _, last = name.rpartition(".")
    setattr(model.get_submodule(parent), last, module)
