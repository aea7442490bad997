"""Options of a build of a knowledge base."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from rag.base import Chunk, Embedder
from rag.corpus.chunks import split_text
from rag.corpus.documents import Loaded, load_documents
from rag.corpus.readers.base import SourceFile

if TYPE_CHECKING:
    from langchain_core.documents import Document

    Load = Callable[[SourceFile], Loaded]
    Read = Callable[[SourceFile], Iterable[Document]]
    #: Takes a document, the model's way to count tokens, the wished size and the greatest.
    Split = Callable[[Document, Callable[[str], int], int, int], Sequence[Chunk]]


@dataclass(frozen=True)
class BuildOptions:
    """Options of a build.

    `embedder` loads its weights only when there is something to split or to embed. `size` is the
    wished length of a chunk in its tokens. `chroma` is the URL of a server, None for the embedded
    store. `rebuild` takes over nothing of what was built before. `read` and `split` are the
    project's own where they are None.
    """

    embedder: Embedder
    size: int = 200
    chroma: str | None = None
    rebuild: bool = False
    read: Read | None = None
    split: Split | None = None

    def loader(self) -> Load:
        """The function that reads a file; an error of a `read` given ends the build."""
        read = self.read
        if read is None:
            return lambda file: load_documents([file])
        return lambda file: Loaded(tuple(read(file)))

    def splitter(self) -> Split:
        """The function that cuts a document into chunks."""
        return self.split if self.split is not None else split_text
