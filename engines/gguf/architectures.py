"""Architectures that can be written as GGUF, with llama.cpp's names of their weights.

llama.cpp's rotary code for `llama` pairs neighbouring rows of a head where transformers pairs the
two halves, so the rows of its query and key weights stand in another order in a GGUF file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from domainlift.errors import NoSuch
from domainlift.optional import need


@dataclass(frozen=True)
class Architecture:
    """An architecture as `gguf` names it; `rotated` tells whether query and key are permuted."""

    name: str
    rotated: bool = False


@dataclass(frozen=True)
class ModelShape:
    """Architecture and counts of a model, under the names that transformers' configurations use."""

    model_type: str
    num_hidden_layers: int
    num_attention_heads: int
    num_key_value_heads: int


#: By the `model_type` of transformers.
ARCHITECTURES = {
    "qwen2": Architecture("qwen2"),
    "qwen3": Architecture("qwen3"),
    "llama": Architecture("llama", rotated=True),
    "mistral": Architecture("llama", rotated=True),
}


class Names:
    """The names and the row order of one model's weights in a GGUF file."""

    def __init__(self, config: Any) -> None:
        """Raise NoSuch where the configuration's architecture is not in the table."""
        kind = str(config.model_type)
        if kind not in ARCHITECTURES:
            raise NoSuch("architecture with a GGUF layout here", kind, ARCHITECTURES)
        self.architecture = ARCHITECTURES[kind]
        self._heads = int(config.num_attention_heads)
        self._kv_heads = int(getattr(config, "num_key_value_heads", None) or self._heads)
        self._find = _name_map(self.architecture.name, int(config.num_hidden_layers))

    def gguf(self, name: str) -> str | None:
        """`blk.0.attn_q.weight` for `model.layers.0.self_attn.q_proj.weight`; None if unknown."""
        return self._find(name)

    def rows(self, name: str, weight: np.ndarray) -> np.ndarray:
        """The rows of a weight (out, …) or bias (out,) in llama.cpp's order."""
        if not self.architecture.rotated:
            return weight
        heads = {"q_proj": self._heads, "k_proj": self._kv_heads}
        for part, count in heads.items():
            if f".{part}." in f".{name}.":
                return _interleave(weight, count)
        return weight


def _name_map(architecture: str, layers: int) -> Callable[[str], str | None]:
    need("gguf", "gguf")
    from gguf import MODEL_ARCH, MODEL_ARCH_NAMES, get_tensor_name_map

    found = {name: arch for arch, name in MODEL_ARCH_NAMES.items()}
    names = get_tensor_name_map(MODEL_ARCH(found[architecture]), layers)
    return lambda name: names.get_name(name, try_suffixes=(".weight", ".bias"))


def _interleave(weight: np.ndarray, heads: int) -> np.ndarray:
    """Put row i of a head's second half behind row i of its first half."""
    rest = weight.shape[1:]
    halves = weight.reshape(heads, 2, weight.shape[0] // heads // 2, *rest)
    return halves.swapaxes(1, 2).reshape(weight.shape)
