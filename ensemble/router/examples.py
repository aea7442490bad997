"""Nearest examples: the router's second opinion, by the embeddings of whole sentences.

The file of examples lies beside the keyword file of a workspace: texts, their domains, and the
vectors of an embedding model that is named there.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from zipfile import BadZipFile

from domainlift.errors import Malformed
from domainlift.files import write_bytes

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: Texts -> vectors of length 1, [texts, dimensions]; see `rag.embedding`.
Embed = Callable[[Sequence[str]], Any]
# Chosen on sources left out, by one half of their questions.
_NEAREST, _WIDTH = 20, 0.05


class SecondOpinion(NamedTuple):
    """Each domain's share of the nearest examples, and the nearest one of each."""

    shares: Mapping[str, float]
    nearest: Mapping[str, str]


@dataclass(frozen=True)
class Examples:
    """Texts with their domains and their vectors by the embedding model `model`."""

    model: str
    texts: tuple[str, ...]
    domains: tuple[str, ...]
    vectors: NDArray[np.float32]

    def ask(self, text: str, embed: Embed) -> SecondOpinion:
        """The domains of the nearest examples, each by exp(cosine / width)."""
        import numpy as np

        near = self.vectors @ np.asarray(embed([text]), dtype=np.float32)[0]
        order = np.argsort(-near, kind="stable")[:_NEAREST]
        weights = np.exp((near[order] - near[order[0]]) / _WIDTH)
        shares: dict[str, float] = {}
        nearest: dict[str, str] = {}
        for place, weight in zip(order.tolist(), (weights / weights.sum()).tolist(), strict=True):
            name = self.domains[place]
            shares[name] = shares.get(name, 0.0) + weight
            nearest.setdefault(name, self.texts[place])
        return SecondOpinion(shares, nearest)


def examples_file(keywords: Path) -> Path:
    """Where the examples of a keyword file lie."""
    return keywords.with_suffix(".examples.npz")


def write_examples(path: Path, examples: Examples) -> None:
    """Write the file of examples; vectors of two bytes a number."""
    import numpy as np

    def held(text: str) -> NDArray[np.uint8]:
        return np.frombuffer(text.encode(), np.uint8)

    buffer = BytesIO()
    np.savez(
        buffer,
        vectors=examples.vectors.astype(np.float16),
        model=held(examples.model),
        texts=held("\n".join(" ".join(text.split()) for text in examples.texts)),
        domains=held("\n".join(examples.domains)),
    )
    write_bytes(path, buffer.getvalue())


def read_examples(path: Path) -> Examples:
    """Read a file of examples; Malformed where it is none."""
    import numpy as np

    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as parts:
            told = {key: parts[key].tobytes().decode() for key in ("model", "texts", "domains")}
            vectors = parts["vectors"].astype(np.float32)
    except (OSError, KeyError, ValueError, EOFError, BadZipFile, zlib.error) as error:
        hint = "fit anew: `bench route fit --embeddings MODEL`, or delete the file"
        raise Malformed(path, f"holds no examples: {error}", hint=hint) from error
    texts, domains = (tuple(told[key].split("\n")) for key in ("texts", "domains"))
    if vectors.ndim != 2 or not len(vectors) == len(texts) == len(domains):
        raise Malformed(path, "holds no examples: its parts do not belong together")
    return Examples(told["model"], texts, domains, vectors)
