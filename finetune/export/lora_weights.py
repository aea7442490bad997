"""The weights of a LoRA adapter, as plain matrices with their scales."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from domainlift.errors import Malformed, Misuse
from engines.local.plain_lora import lora_extension
from finetune.adapters.registry import WEIGHTS, Adapter

if TYPE_CHECKING:
    import numpy as np

_PREFIX = "base_model.model."
_A, _B = ".lora_A.weight", ".lora_B.weight"
#: Ways to begin that take the adapter's first weights out of the base model's.
_FROM_BASE = ("corda", "loftq", "lora_ga", "olora", "pissa")


@dataclass(frozen=True)
class Delta:
    """What is added to one layer's weight (out, in): `scale` · `b` (out, r) · `a` (r, in)."""

    layer: str
    a: np.ndarray
    b: np.ndarray
    scale: float

    @property
    def product(self) -> np.ndarray:
        """The addend, (out, in) in 32 bits."""
        product: np.ndarray = self.scale * (self.b @ self.a)
        return product

    @property
    def alpha(self) -> float:
        """The alpha with which alpha / r is the scale."""
        return self.scale * int(self.a.shape[0])


def refuse_more_than_lora(adapter: Adapter) -> None:
    """Raise Misuse where an adapter is more than a LoRA in GGUF can hold."""
    extension = lora_extension(adapter.config)
    start = str(adapter.config.get("init_lora_weights"))
    if extension is None and start.startswith(_FROM_BASE):
        extension = f"weights taken out of the base's (`{start}`)"
    if extension is not None:
        raise Misuse(
            f"adapter `{adapter.name}` has {extension}, which a GGUF file cannot hold as a LoRA",
            "merge it into the base model: `--to merged`, or `--to gguf` without `--base-gguf`",
        )


def read_deltas(adapter: Adapter) -> list[Delta]:
    """Read all layers, in the order of their names; Malformed where A and B do not pair."""
    found = list(_deltas(adapter, _tensors(adapter)))
    if not found:
        raise Malformed(adapter.folder / WEIGHTS, "holds no weights")
    return found


def _tensors(adapter: Adapter) -> Mapping[str, np.ndarray]:
    """As 32-bit numbers: numpy has no bfloat16."""
    from safetensors.torch import load_file

    path = adapter.folder / WEIGHTS
    loaded = load_file(path)
    for name in loaded:
        if not name.startswith(_PREFIX) or not name.endswith((_A, _B)):
            raise Malformed(path, f"`{name}` is not a weight of a plain LoRA")
    return {name.removeprefix(_PREFIX): weight.float().numpy() for name, weight in loaded.items()}


def _deltas(adapter: Adapter, tensors: Mapping[str, np.ndarray]) -> Iterator[Delta]:
    layers = {name.removesuffix(_A).removesuffix(_B) for name in tensors}
    for layer in sorted(layers):
        a, b = tensors.get(layer + _A), tensors.get(layer + _B)
        if a is None or b is None or a.shape[0] != b.shape[1]:
            raise Malformed(adapter.folder / WEIGHTS, f"`{layer}` has no A and B that fit")
        yield Delta(layer, a, b, _scale(adapter.config, layer, a.shape[0]))


def _scale(config: Mapping[str, Any], layer: str, rank: int) -> float:
    """Alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA (Kalajdzievski 2023, eq. 6)."""
    from peft.utils.other import get_pattern_key

    patterns = config.get("alpha_pattern") or {}
    alpha = float(patterns.get(get_pattern_key(patterns, layer), config["lora_alpha"]))
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)
