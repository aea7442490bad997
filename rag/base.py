"""Types of retrieval: chunks, hits and embedding models."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

#: A row for each text.
Vectors: TypeAlias = "NDArray[np.float32]"
#: Called with how many of how many pieces of work are done.
Notify = Callable[[int, int], None]


@dataclass(frozen=True)
class Chunk:
    """A piece of a document, small enough for the embedding model.

    `source` names the document (a path within what was given, and a record within a file),
    `heading` is the path of its headings, joined by " > ". `offset` counts characters from the
    start of the document's text, so that the piece can be found again. `document` is the hash of
    the document's content.
    """

    text: str
    source: str
    heading: str = ""
    licence: str = ""
    offset: int = 0
    document: str = ""

    @property
    def id(self) -> str:
        """16 hexadecimal digits of the place and the content."""
        parts = (self.source, str(self.offset), self.heading, self.text)
        return hashlib.sha256("\0".join(parts).encode("utf-8", "replace")).hexdigest()[:16]

    @property
    def indexed(self) -> str:
        """The text that is embedded and searched: a heading often names what the text is about."""
        return f"{self.heading}\n{self.text}" if self.heading else self.text


@dataclass(frozen=True)
class Hit:
    """A chunk that was found; `rank` counts from 1, `score` is the one that decided the rank.

    `dense` is the cosine of the angle between question and chunk, `bm25` its lexical score; None
    where that method did not find the chunk.
    """

    chunk: Chunk
    rank: int
    score: float
    dense: float | None = None
    bm25: float | None = None


class Embedder(Protocol):
    """Turns texts into vectors of length 1."""

    @property
    def name(self) -> str:
        """The name that a user gives, as `all-MiniLM-L6-v2`."""
        ...

    @property
    def digest(self) -> str:
        """Changes with the weights and with anything that changes a vector."""
        ...

    @property
    def max_tokens(self) -> int:
        """Longer texts would be cut off, special tokens included."""
        ...

    def count(self, text: str) -> int:
        """Count tokens, special ones included."""
        ...

    def encode(self, texts: Sequence[str], notify: Notify | None = None) -> Vectors:
        """Embed what is searched in, [texts, dimensions]; a text beyond the limit is an error."""
        ...

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed what is searched for; of a text beyond the limit, its end."""
        ...
