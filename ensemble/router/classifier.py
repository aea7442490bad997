"""Classifier of the router: weights of many more terms than a person would read, in one array.

It scores a question as the keyword file does: bias, plus the weights of the terms that it holds
over the root of its number of words. The weights are whole numbers of one byte, times a scale per
domain.
"""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from io import BytesIO
from typing import TYPE_CHECKING, Any
from zipfile import BadZipFile

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

_PARTS = ("weights", "scale", "bias", "temperature", "terms", "domains")
_STEPS = 127


@dataclass(frozen=True)
class Classifier:
    """A linear model over terms: `weights` is (terms, domains) of float32, `bias` (domains,)."""

    domains: tuple[str, ...]
    terms: tuple[str, ...]
    weights: NDArray[np.float32]
    bias: NDArray[np.float32]
    temperature: float


def classifier_bytes(
    domains: Sequence[str],
    terms: Sequence[str],
    weights: NDArray[Any],
    bias: NDArray[Any],
    temperature: float,
) -> bytes:
    """The file of a classifier; the same content gives the same bytes."""
    import numpy as np

    scale = np.abs(weights).max(axis=0) / _STEPS
    scale[scale == 0] = 1.0
    buffer = BytesIO()
    np.savez_compressed(
        buffer,
        weights=np.round(weights / scale).astype(np.int8),
        scale=scale.astype(np.float32),
        bias=np.asarray(bias, dtype=np.float32),
        temperature=np.float32(temperature),
        terms=packed_texts(terms),
        domains=packed_texts(domains),
    )
    return buffer.getvalue()


@lru_cache(maxsize=1)
def classifier_from_bytes(content: bytes) -> Classifier:
    """Read a classifier's file, the same one once; ValueError where it is none."""
    import numpy as np

    try:
        with np.load(BytesIO(content), allow_pickle=False) as parts:
            arrays = {name: parts[name] for name in _PARTS}
        classifier = Classifier(
            domains=unpacked_texts(arrays["domains"]),
            terms=unpacked_texts(arrays["terms"]),
            weights=arrays["weights"] * arrays["scale"],
            bias=arrays["bias"],
            temperature=float(arrays["temperature"]),
        )
    except (OSError, KeyError, EOFError, TypeError, BadZipFile, zlib.error) as error:
        raise ValueError(str(error)) from error
    shape = (len(classifier.terms), len(classifier.domains))
    if classifier.weights.shape != shape or classifier.bias.shape != shape[1:]:
        raise ValueError("the parts do not belong together")
    if not classifier.temperature > 0:
        raise ValueError(f"the temperature is {classifier.temperature:g}")
    return classifier


def packed_texts(texts: Sequence[str]) -> NDArray[np.uint8]:
    """Texts of one line each as an array that needs no pickle."""
    import numpy as np

    return np.frombuffer("\n".join(texts).encode("utf-8"), dtype=np.uint8)


def unpacked_texts(content: NDArray[np.uint8]) -> tuple[str, ...]:
    """The texts of such an array."""
    return tuple(content.tobytes().decode("utf-8").split("\n"))
