"""Second opinion of the router, by the embeddings of whole sentences.

It is the mean of a linear model over the vectors and of the nearest examples. The file of both lies
beside the keyword file of a workspace: texts, their domains, the vectors of an embedding model that
is named there, and the weights.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from domainlift.errors import Malformed
from domainlift.files import write_bytes

#: Texts -> vectors of length 1, [texts, dimensions]; see `rag.embedding`.
Embed = Callable[[Sequence[str]], Any]
# Chosen on sources left out, by one half of their questions.
_NEAREST, _WIDTH = 20, 0.05


class SecondOpinion(NamedTuple):
    """The probability of each domain, and the nearest example of each that is near."""

    shares: Mapping[str, float]
    nearest: Mapping[str, str]


@dataclass(frozen=True)
class Examples:
    """Texts with their domains and their vectors by the embedding model `model`.

    `weights` (dimensions + 1, names) are those of the linear model for the domains `names`, its
    bias last; a file of an earlier version has none.
    """

    model: str
    texts: tuple[str, ...]
    domains: tuple[str, ...]
    vectors: NDArray[np.float32]
    names: tuple[str, ...] = ()
    weights: NDArray[np.float32] | None = None

    def ask(self, text: str, embed: Embed) -> SecondOpinion:
        """The mean of the linear model and of the nearest examples, by exp(cosine / width)."""
        vector = np.asarray(embed([text]), dtype=np.float32)[0]
        near = self.vectors @ vector
        order = np.argsort(-near, kind="stable")[:_NEAREST]
        weights = np.exp((near[order] - near[order[0]]) / _WIDTH)
        shares: dict[str, float] = {}
        nearest: dict[str, str] = {}
        for place, weight in zip(order.tolist(), (weights / weights.sum()).tolist(), strict=True):
            name = self.domains[place]
            shares[name] = shares.get(name, 0.0) + weight
            nearest.setdefault(name, self.texts[place])
        if self.weights is not None:
            scores = vector @ self.weights[:-1] + self.weights[-1]
            chances = np.exp(scores - scores.max())
            linear = zip(self.names, (chances / chances.sum()).tolist(), strict=True)
            shares = {name: (shares.get(name, 0.0) + chance) / 2 for name, chance in linear}
        return SecondOpinion(shares, nearest)


def examples_file(keywords: Path) -> Path:
    """Where the examples of a keyword file lie."""
    return keywords.with_suffix(".examples.npz")


def write_examples(path: Path, examples: Examples) -> None:
    """Write the file of examples; vectors of two bytes a number."""

    def held(text: str) -> NDArray[np.uint8]:
        return np.frombuffer(text.encode(), np.uint8)

    buffer = BytesIO()
    linear: dict[str, Any] = {}
    if examples.weights is not None:
        linear = {"names": held("\n".join(examples.names)), "weights": examples.weights}
    np.savez(
        buffer,
        vectors=examples.vectors.astype(np.float16),
        model=held(examples.model),
        texts=held("\n".join(" ".join(text.split()) for text in examples.texts)),
        domains=held("\n".join(examples.domains)),
        **linear,
    )
    write_bytes(path, buffer.getvalue())


def read_examples(path: Path) -> Examples:
    """Read a file of examples; Malformed where it is none."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as parts:
            told = {key: parts[key].tobytes().decode() for key in ("model", "texts", "domains")}
            vectors = parts["vectors"].astype(np.float32)
            names = parts["names"].tobytes().decode() if "names" in parts else ""
            weights = parts["weights"] if names else None
    except (OSError, KeyError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        hint = "fit anew: `bench route fit --embeddings MODEL`, or delete the file"
        raise Malformed(path, f"holds no examples: {error}", hint=hint) from error
    texts, domains = (tuple(told[key].split("\n")) for key in ("texts", "domains"))
    known = tuple(names.split("\n")) if names else ()
    fits = vectors.ndim == 2 and len(vectors) == len(texts) == len(domains)
    if not fits or not (weights is None or weights.shape == (vectors.shape[1] + 1, len(known))):
        raise Malformed(path, "holds no examples: its parts do not belong together")
    return Examples(told["model"], texts, domains, vectors, known, weights)
