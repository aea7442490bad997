"""The weights of a LoRA adapter, as plain matrices with their scales."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from domainlift.errors import Malformed
from engines.local.plain_lora import lora_extension

CONFIG = "adapter_config.json"
WEIGHTS = "adapter_model.safetensors"
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


def beyond_lora(config: Mapping[str, Any]) -> str | None:
    """Name what a PEFT configuration has that a LoRA in GGUF cannot hold; None for nothing."""
    extension = lora_extension(config)
    start = str(config.get("init_lora_weights"))
    if extension is None and start.startswith(_FROM_BASE):
        extension = f"weights taken out of the base's (`{start}`)"
    return extension


def peft_config(folder: Path) -> dict[str, Any]:
    """PEFT's configuration of an adapter; Malformed where there is none."""
    path = folder / CONFIG
    try:
        config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise Malformed(path, f"is no configuration of an adapter: {error}") from error
    return config


def read_deltas(folder: Path) -> list[Delta]:
    """Read all layers of a PEFT adapter, by name; Malformed where A and B do not pair."""
    path = folder / WEIGHTS
    config = peft_config(folder)
    deltas = list(_deltas(path, config, _tensors(path)))
    if not deltas:
        raise Malformed(path, "holds no weights")
    return deltas


def _tensors(path: Path) -> Mapping[str, np.ndarray]:
    """As 32-bit numbers: numpy has no bfloat16."""
    from safetensors.torch import load_file

    loaded = load_file(path)
    for name in loaded:
        if not name.startswith(_PREFIX) or not name.endswith((_A, _B)):
            raise Malformed(path, f"`{name}` is not a weight of a plain LoRA")
    return {name.removeprefix(_PREFIX): weight.float().numpy() for name, weight in loaded.items()}


def _deltas(
    path: Path, config: Mapping[str, Any], tensors: Mapping[str, np.ndarray]
) -> Iterator[Delta]:
    layers = {name.removesuffix(_A).removesuffix(_B) for name in tensors}
    for layer in sorted(layers):
        a, b = tensors.get(layer + _A), tensors.get(layer + _B)
        if a is None or b is None or a.shape[0] != b.shape[1]:
            raise Malformed(path, f"`{layer}` has no A and B that fit")
        yield Delta(layer, a, b, _scale(config, layer, a.shape[0]))


def _scale(config: Mapping[str, Any], layer: str, rank: int) -> float:
    """Alpha / r, or alpha / sqrt(r) for rank-stabilised LoRA (Kalajdzievski 2023, eq. 6)."""
    from peft.utils.other import get_pattern_key

    patterns = config.get("alpha_pattern") or {}
    alpha = float(patterns.get(get_pattern_key(patterns, layer), config["lora_alpha"]))
    return alpha / (rank**0.5 if config.get("use_rslora") else rank)
