"""The small classifier: weights of many more terms than a person would read, in one array.

It scores a question as the keyword file does: bias, plus the weights of the terms that it holds
over the root of its number of words. The weights are whole numbers of one byte, times a scale per
domain.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
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


def packed(
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
        terms=_bytes(terms),
        domains=_bytes(domains),
    )
    return buffer.getvalue()


def unpacked(content: bytes) -> Classifier:
    """Read a classifier's file; ValueError where it is none."""
    import numpy as np

    try:
        with np.load(BytesIO(content), allow_pickle=False) as parts:
            held = {name: parts[name] for name in _PARTS}
        return Classifier(
            domains=_texts(held["domains"]),
            terms=_texts(held["terms"]),
            weights=held["weights"] * held["scale"],
            bias=held["bias"],
            temperature=float(held["temperature"]),
        )
    except (OSError, KeyError, EOFError, BadZipFile) as error:
        raise ValueError(f"not a classifier ({error})") from error


def _bytes(texts: Sequence[str]) -> NDArray[np.uint8]:
    import numpy as np

    return np.frombuffer("\n".join(texts).encode("utf-8"), dtype=np.uint8)


def _texts(held: NDArray[np.uint8]) -> tuple[str, ...]:
    return tuple(held.tobytes().decode("utf-8").split("\n"))
