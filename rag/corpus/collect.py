"""Contents of a build: the chunks of its files; those of unchanged files are reused."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from typing import TYPE_CHECKING

from rag.base import Chunk
from rag.index.manifest import SourceEntry

if TYPE_CHECKING:
    from langchain_core.documents import Document

    from rag.corpus.documents import Loaded
    from rag.corpus.readers.base import SourceFile
    from rag.index.index import Progress

    Load = Callable[[SourceFile], Loaded]
    #: Cuts a document into chunks.
    Cut = Callable[[Document], Sequence[Chunk]]

#: Label, hash, licence and title of a file: where all are equal, its chunks are reused.
Key = tuple[str, str, str, str]


@dataclass
class Contents:
    """Chunks without repetition, in the order of their sources; `refused` says file and reason."""

    chunks: list[Chunk] = field(default_factory=list)
    sources: list[SourceEntry] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)

    @property
    def documents(self) -> int:
        """Number of documents that have text."""
        return len(documents(self.chunks))


@dataclass(frozen=True)
class Counts:
    """Numbers of documents by what the build did with them."""

    added: int = 0
    updated: int = 0
    skipped: int = 0
    deleted: int = 0


def collect(
    files: Sequence[SourceFile],
    kept: Mapping[Key, Sequence[Chunk]],
    load: Load,
    cut: Cut,
    say: Progress,
) -> Contents:
    """Read and cut the files, but for those whose chunks are `kept`."""
    contents = Contents()
    seen: set[str] = set()
    for number, file in enumerate(files):
        say("read", number, len(files))
        result = _file_chunks(file, kept, load, cut)
        if result.refused is not None:
            contents.refused.append(f"{file.label}: {result.refused}")
        if result.chunks is not None:
            new = _unseen(result.chunks, seen)
            contents.chunks += new
            contents.sources.append(SourceEntry(*result.key, len(documents(new)), len(new)))
    say("read", len(files), len(files))
    return contents


def key(origin: SourceFile | SourceEntry) -> Key:
    """The key by which a file counts as unchanged."""
    return (origin.label, origin.sha256, origin.licence, origin.title)


def documents(chunks: Iterable[Chunk]) -> set[tuple[str, str]]:
    """The documents to which chunks belong: where they stand, and the hash of their content."""
    return {(chunk.source, chunk.document) for chunk in chunks}


def count_changes(old: set[tuple[str, str]], new: set[tuple[str, str]]) -> Counts:
    """Tell apart what was added, updated, skipped and deleted."""
    gone, come = old - new, new - old
    updated = len({source for source, _ in gone} & {source for source, _ in come})
    return Counts(len(come) - updated, updated, len(old & new), len(gone) - updated)


@dataclass(frozen=True)
class _FileChunks:
    key: Key
    chunks: Sequence[Chunk] | None = None
    refused: str | None = None


def _file_chunks(
    file: SourceFile, kept: Mapping[Key, Sequence[Chunk]], load: Load, cut: Cut
) -> _FileChunks:
    if key(file) in kept:
        return _FileChunks(key(file), kept[key(file)])
    loaded = load(file)
    if loaded.refused:
        return _failed(file, kept, loaded.refused[0][1])
    own = key(file) if file.sha256 else key(replace(file, sha256=_hash(loaded.documents)))
    if own in kept:
        return _FileChunks(own, kept[own])
    return _FileChunks(own, [chunk for document in loaded.documents for chunk in cut(document)])


def _failed(file: SourceFile, kept: Mapping[Key, Sequence[Chunk]], reason: str) -> _FileChunks:
    """A file that cannot be read is left out; a data set that cannot be reached stays as it was."""
    before = [own for own in kept if own[0] == file.label and not file.sha256]
    if before:
        return _FileChunks(before[0], kept[before[0]], f"{reason}; it stays as it was")
    return _FileChunks(key(file), refused=reason)


def _hash(documents: Iterable[Document]) -> str:
    """The hash of a data set, whose files are not known to us."""
    digest = sha256()
    for document in documents:
        line = json.dumps([document.page_content, document.metadata], sort_keys=True, default=str)
        digest.update(line.encode())
    return digest.hexdigest()


def _unseen(chunks: Iterable[Chunk], seen: set[str]) -> list[Chunk]:
    """Leave out chunks with an id that was there: Chroma could not tell them apart."""
    new = []
    for chunk in chunks:
        if chunk.id not in seen:
            seen.add(chunk.id)
            new.append(chunk)
    return new
