"""Published generation that a build starts from; its parts are read when they are needed."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path

from domainlift.errors import Malformed
from rag.base import Chunk, Vectors
from rag.corpus.collect import Key, documents, key
from rag.index.index import Chunks, read_ids, read_vectors
from rag.index.manifest import IndexManifest


class PublishedGeneration:
    """A published generation, in the hands of its domain's only writer."""

    def __init__(self, folder: Path, manifest: IndexManifest) -> None:
        self.folder = folder
        self.manifest = manifest

    @cached_property
    def chunks(self) -> list[Chunk]:
        """All chunks, in the order of their rows."""
        return Chunks(self.folder, self.manifest.domain, self.manifest.chunks)[:]

    @cached_property
    def rows(self) -> dict[str, int]:
        """The row of each chunk's id."""
        return {id_: row for row, id_ in enumerate(read_ids(self.folder, self.manifest))}

    @property
    def vectors(self) -> Vectors:
        """The vectors of all chunks, read from the disk as they are needed."""
        return read_vectors(self.folder, self.manifest)

    def by_file(self) -> dict[Key, list[Chunk]]:
        """The chunks of each file."""
        chunks, start = {}, 0
        for source in self.manifest.sources:
            chunks[key(source)] = self.chunks[start : start + source.chunks]
            start += source.chunks
        return chunks

    def documents(self) -> set[tuple[str, str]]:
        """The documents that have text; none where they cannot be read any more."""
        try:
            return documents(self.chunks)
        except Malformed:
            return set()
