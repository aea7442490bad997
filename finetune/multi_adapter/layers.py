"""Several LoRA adapters over one frozen base, trained in one batch: each token through its own.

A layer's adapters stand in two matrices (see `engines.local.lora_mask`), and what each adapter
alone would learn from its tokens is what it learns here. B is kept transposed: an adapter's part of
it is then one piece of memory, as fused optimisers want it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import nn

from domainlift.errors import Misuse, NoSuch
from domainlift.files import disk_errors
from engines.local.lora_mask import BASE, AdapterMask, RankLayout, StackedLayer
from engines.local.plain_lora import lora_extension

if TYPE_CHECKING:
    from peft import LoraConfig

_WEIGHTS = "adapter_model.safetensors"
_PREFIX = "base_model.model."


class Joint:
    """Adapters by name over a model, added by a hook on each of its layers until `detach`."""

    def __init__(self, model: nn.Module, configs: Mapping[str, LoraConfig]) -> None:
        """Put fresh adapters on, initialised as PEFT does; Misuse for more than plain LoRA.

        Each adapter's numbers are drawn one after another, so seed before.
        """
        self.model = model
        self.names = tuple(configs)
        self.configs = dict(configs)
        self._mask = AdapterMask()
        for parameter in model.parameters():
            parameter.requires_grad_(False)
        self.layers = _stack(model, list(configs.values()))
        dropout = next(iter(configs.values())).lora_dropout
        self._hooks = [
            layer.module.register_forward_hook(_adapter_hook(layer, self._mask, dropout))
            for layer in self.layers.values()
        ]

    @contextmanager
    def using(self, adapters: torch.Tensor | Sequence[str | None] | str | None) -> Iterator[None]:
        """Choose for the block: one name for all, one per row, or indices (batch, tokens).

        None is the base model alone. Recomputed activations ask again, so hold this around the
        backward pass too where a model recomputes them.
        """
        with self._mask.set(self._index(adapters)):
            yield

    def parameters(self) -> list[torch.Tensor]:
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
        for hook in self._hooks:
            hook.remove()
        for layer in self.layers.values():
            del layer.module.joint_a, layer.module.joint_b
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


def split_adapters(joint: Joint, folders: Mapping[str, Path]) -> None:
    """Write adapters by name into folders, each as PEFT would write it."""
    from safetensors.torch import save_file

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


def _stack(model: nn.Module, configs: Sequence[LoraConfig]) -> dict[str, StackedLayer]:
    """Fresh matrices for all adapters of each layer, in 32 bits, by the layer's name."""
    targets = [_targets(model, config) for config in configs]
    if len({config.lora_dropout for config in configs}) != 1:
        raise Misuse("joint adapters need one `lora_dropout` for all", "train them by themselves")
    layers = {}
    for name, module in model.named_modules():
        if not any(name in names for names in targets):
            continue
        layout = RankLayout(
            tuple(
                (config.r, _scale(config)) if name in names else (0, 0.0)
                for config, names in zip(configs, targets, strict=True)
            )
        )
        rank = sum(rank for rank, _ in layout.parts)
        place: dict[str, Any] = {"device": module.weight.device, "dtype": torch.float32}
        # Parameters of the model, so that its gradients are cleared with all others.
        module.joint_a = nn.Parameter(torch.zeros(rank, module.in_features, **place))
        module.joint_b = nn.Parameter(torch.zeros(rank, module.out_features, **place))
        layers[name] = StackedLayer(module, layout, module.joint_a, module.joint_b)
    for adapter in range(len(configs)):
        for layer in layers.values():
            _initialise(layer, adapter)
    return layers


def _adapter_hook(
    layer: StackedLayer, mask: AdapterMask, dropout: float
) -> Callable[[nn.Module, tuple[torch.Tensor, ...], torch.Tensor], torch.Tensor]:
    """Add each token's own adapter to the layer's output; its input is (batch, tokens, in)."""

    def add(
        module: nn.Module, args: tuple[torch.Tensor, ...], output: torch.Tensor
    ) -> torch.Tensor:
        x = nn.functional.dropout(args[0].to(layer.a.dtype), dropout, module.training)
        inner = nn.functional.linear(x, layer.a) * mask.mask(layer.layout, layer.a.dtype)
        return output + (inner @ layer.b).to(output.dtype)

    return add


def _initialise(layer: StackedLayer, adapter: int) -> None:
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
