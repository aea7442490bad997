"""BERT without torch, for a few questions: importing torch takes longer than a search.

The computation of `transformers`' BertModel (Devlin et al. 2019, NAACL), one text at a time, so
nothing is padded. Models of another kind are left to sentence-transformers.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rag.base import Vectors

Array = NDArray[np.float32]

_MODULES = (["Transformer", "Pooling"], ["Transformer", "Pooling", "Normalize"])


class Bert:
    """The weights of a model, read when it is made."""

    def __init__(self, folder: Path, config: Mapping[str, Any], pooling: str) -> None:
        from safetensors.numpy import load_file

        stored = load_file(folder / "model.safetensors")
        self._weights = {key.removeprefix("bert."): value for key, value in stored.items()}
        self._heads = int(config["num_attention_heads"])
        self._layers = int(config["num_hidden_layers"])
        self._epsilon = float(config["layer_norm_eps"])
        self._pooling = pooling

    def encode(self, rows: Sequence[Sequence[int]]) -> Vectors:
        """Embed texts that are tokens already, [texts, dimensions], in vectors of length 1."""
        from threadpoolctl import threadpool_limits

        with threadpool_limits(1):  # threads of a few milliseconds wait for one another
            made = np.stack([self._embed(row) for row in rows])
        unit: Vectors = made / np.linalg.norm(made, axis=1, keepdims=True)
        return unit

    def _embed(self, ids: Sequence[int]) -> Array:
        tables = ("word_embeddings", "position_embeddings", "token_type_embeddings")
        word, position, kind = (self._weights[f"embeddings.{name}.weight"] for name in tables)
        x = word[list(ids)] + position[: len(ids)] + kind[0]
        x = self._normed(x.astype("float32"), "embeddings.LayerNorm")
        for number in range(self._layers):
            x = self._layer(x, f"encoder.layer.{number}")
        pooled: Array = x[0] if self._pooling == "cls" else x.mean(axis=0)
        return pooled

    def _layer(self, x: Array, name: str) -> Array:
        attended = self._linear(self._attended(x, name), f"{name}.attention.output.dense")
        x = self._normed(x + attended, f"{name}.attention.output.LayerNorm")
        inner = _gelu(self._linear(x, f"{name}.intermediate.dense"))
        return self._normed(
            x + self._linear(inner, f"{name}.output.dense"), f"{name}.output.LayerNorm"
        )

    def _attended(self, x: Array, name: str) -> Array:
        parts = ("query", "key", "value")
        made = (self._linear(x, f"{name}.attention.self.{part}") for part in parts)
        split = (part.reshape(len(x), self._heads, -1).swapaxes(0, 1) for part in made)
        query, key, value = split
        scores = query @ key.swapaxes(1, 2) / value.shape[2] ** 0.5
        weights = np.exp(scores - scores.max(axis=2, keepdims=True))
        weights /= weights.sum(axis=2, keepdims=True)
        joined: Array = (weights @ value).swapaxes(0, 1).reshape(len(x), -1)
        return joined

    def _linear(self, x: Array, name: str) -> Array:
        made: Array = x @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        return made

    def _normed(self, x: Array, name: str) -> Array:
        x = x - x.mean(axis=1, keepdims=True)
        x = x / np.sqrt((x * x).mean(axis=1, keepdims=True) + self._epsilon)
        made: Array = x * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return made


def _gelu(x: Array) -> Array:
    """GELU, x Φ(x), with the error function to 1.5e-7 by Abramowitz and Stegun (1964), 7.1.26."""
    z = x / 2**0.5
    t = 1 / (1 + 0.3275911 * np.abs(z))
    series = t * (-1.453152027 + t * 1.061405429)
    series = t * (0.254829592 + t * (-0.284496736 + t * (1.421413741 + series)))
    made: Array = x * (1 + np.sign(z) * (1 - series * np.exp(-z * z))) / 2
    return made


def open_bert(folder: Path) -> Bert | None:
    """The model of a folder, None where it is of another kind."""
    config, modules, pooling = (
        _read(folder / part) for part in ("config.json", "modules.json", "1_Pooling/config.json")
    )
    kinds = [str(module.get("type", "")).rpartition(".")[2] for module in modules or []]
    modes = [mode for mode in pooling if mode.startswith("pooling_mode_") and pooling[mode] is True]
    wanted = (
        kinds in _MODULES
        and config.get("model_type") == "bert"
        and config.get("hidden_act") == "gelu"
        and config.get("position_embedding_type", "absolute") == "absolute"
        and find_spec("threadpoolctl") is not None
    )
    names = {"pooling_mode_mean_tokens": "mean", "pooling_mode_cls_token": "cls"}
    if not wanted or len(modes) != 1 or modes[0] not in names:
        return None
    return Bert(folder, config, names[modes[0]])


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
