"""Index of one generation: its files, and the search in them.

chunks.jsonl      one chunk per line; the line's number is the chunk's row
ids.npy           their ids, by which Chroma knows them
embeddings.npy    their vectors, [chunks, dimensions], so that a Chroma index can always be remade
chroma/, bm25/    the two indexes; chroma.json says where the vectors are
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import overload

import numpy as np

from domainlift.activity import activity
from domainlift.errors import BenchError, Malformed
from domainlift.files import disk_errors
from domainlift.hints import copyable
from rag.base import Chunk, Vectors
from rag.index import chroma_store as dense
from rag.index.bm25 import BM25Index, Ranked, write_bm25
from rag.index.chroma_store import ChromaIndex
from rag.index.manifest import IndexManifest, check_sums, damaged_index
from rag.index.store import Generation, KnowledgeBaseStore

CHUNKS = "chunks.jsonl"
IDS = "ids.npy"
VECTORS = "embeddings.npy"

#: Called with a stage's name and how many of how many pieces of its work are done.
Progress = Callable[[str, int, int], None]


def no_progress(stage: str, done: int, total: int) -> None:
    """No-op progress callback."""


@dataclass(frozen=True)
class Changes:
    """Difference from the generation in `folder`, whose embedded Chroma index is reused."""

    folder: Path
    removed: Sequence[str]
    added: Sequence[int]


def write_index(
    place: dense.VectorLocation,
    chunks: Sequence[Chunk],
    vectors: Vectors,
    marks: dense.Marks,
    *,
    changes: Changes | None,
    say: Progress,
) -> None:
    """Write everything that `Index` reads; the ids of the chunks must be unique."""
    ids = [chunk.id for chunk in chunks]
    _write_rows(place.folder, chunks, ids, vectors)
    say("words", 0, len(chunks))
    write_bm25(place.folder, [chunk.indexed for chunk in chunks])
    say("words", len(chunks), len(chunks))

    def notify(done: int, total: int) -> None:
        say("vectors", done, total)

    if changes is None:
        dense.create(place, marks, ids, vectors, notify)
    else:
        new = [ids[row] for row in changes.added]
        rows = vectors[list(changes.added)]
        dense.update(place, changes.folder, changes.removed, new, rows, notify)


def open_index(root: Path, domain: str, *, exact: bool = False, generation: str = "") -> Index:
    """Open a domain's knowledge base for searching: as published, or the generation named."""
    return Index(KnowledgeBaseStore(root).open(domain, generation), exact=exact)


class Index:
    """An opened generation; it stays as it is while later ones are published.

    With `exact`, a question is compared with every vector instead of asking Chroma, which takes
    longer to import than that takes.
    """

    def __init__(self, generation: Generation, *, exact: bool = False) -> None:
        self._generation = generation
        self.manifest: IndexManifest = generation.manifest
        folder, domain = generation.folder, self.manifest.domain
        try:
            check_sums(folder, self.manifest)
            self.chunks: Sequence[Chunk] = Chunks(folder, domain, self.manifest.chunks)
            self.vectors = read_vectors(folder, self.manifest)
            self._rows = {id_: row for row, id_ in enumerate(read_ids(folder, self.manifest))}
            self._chroma = None if exact else self._open_chroma()
        except BaseException:
            generation.close()
            raise

    @property
    def folder(self) -> Path:
        """Folder of the generation; others may write `gates/` in it."""
        return self._generation.folder

    def dense(self, vectors: Vectors, k: int) -> list[Ranked]:
        """The k nearest rows per vector of length 1, with the cosine, best first."""
        k = min(k, len(self.chunks))
        if k < 1 or not len(vectors):
            return [[] for _ in vectors]
        if self._chroma is None:
            return [self._exact(vector, k) for vector in vectors]
        neighbours = self._chroma.query(vectors, k)
        return [
            # An approximate index may miss some where all are asked for; then all are compared.
            self._ranked(near) if len(near) == k else self._exact(vector, k)
            for near, vector in zip(neighbours, vectors, strict=True)
        ]

    def bm25(self, queries: Sequence[str], k: int) -> list[Ranked]:
        """The k best rows per query by BM25, best first; a row that shares no word is left out."""
        return self._lexical.query(queries, k) if k > 0 else [[] for _ in queries]

    def bounds(self, queries: Sequence[str]) -> list[float]:
        """The greatest BM25 that a row could have, per query."""
        return self._lexical.bounds(queries)

    def cosines(self, vector: Vectors, rows: Sequence[int]) -> list[float]:
        """The cosines of rows with a vector of length 1."""
        found: list[float] = (self.vectors[list(rows)] @ vector).tolist()
        return found

    def _open_chroma(self) -> ChromaIndex:
        place = dense.location_of(self._generation.folder, self.manifest.domain)
        return ChromaIndex(place, self.manifest.marks, self.manifest.chunks)

    @cached_property
    def _lexical(self) -> BM25Index:
        """The BM25 index; where its terms are others than today's, one of today's in its place."""
        domain = self.manifest.domain
        if self.manifest.stale:
            stores = copyable(f"`bench kb build {domain}` stores them")
            with activity(f"indexing the words of `{domain}`; {stores}"):
                return BM25Index.of([chunk.indexed for chunk in self.chunks])
        folder = self._generation.folder
        try:
            return BM25Index.open(folder)
        except (OSError, ValueError, KeyError, TypeError, EOFError) as error:
            what = "the BM25 index cannot be read"
            raise damaged_index(folder / "bm25", domain, what) from error

    def close(self) -> None:
        """Let go of the generation."""
        if self._chroma is not None:
            self._chroma.close()
        self._generation.close()

    def __enter__(self) -> Index:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _ranked(self, near: list[tuple[str, float]]) -> Ranked:
        try:
            rows = [(self._rows[id_], cosine) for id_, cosine in near]
        except KeyError as error:
            what = f"Chroma knows a chunk {error} that the knowledge base has not"
            raise damaged_index(self._generation.folder, self.manifest.domain, what) from error
        return sorted(rows, key=lambda pair: (-pair[1], pair[0]))

    def _exact(self, vector: Vectors, k: int) -> Ranked:
        cosines = self.vectors @ vector
        rows = np.argsort(-cosines, kind="stable")[:k]
        return [(int(row), float(cosines[row])) for row in rows]


class Chunks(Sequence[Chunk]):
    """The chunks of a file, parsed when they are asked for."""

    def __init__(self, folder: Path, domain: str, count: int) -> None:
        self._path, self._domain = folder / CHUNKS, domain
        try:
            self._bytes = self._path.read_bytes()
        except OSError as error:
            raise damaged_index(self._path, domain, "cannot be read") from error
        self._ends = np.flatnonzero(np.frombuffer(self._bytes, np.uint8) == ord("\n"))
        if len(self._ends) != count:
            raise damaged_index(self._path, domain, f"{len(self._ends)} lines instead of {count}")

    def __len__(self) -> int:
        return len(self._ends)

    @overload
    def __getitem__(self, row: int) -> Chunk: ...
    @overload
    def __getitem__(self, row: slice) -> list[Chunk]: ...
    def __getitem__(self, row: int | slice) -> Chunk | list[Chunk]:
        if isinstance(row, slice):
            return [self[number] for number in range(*row.indices(len(self)))]
        row = range(len(self))[row]
        start = int(self._ends[row - 1]) + 1 if row else 0
        try:
            return Chunk(**json.loads(self._bytes[start : int(self._ends[row])]))
        except (ValueError, TypeError, RecursionError) as error:
            wrong = damaged_index(self._path, self._domain, "not a chunk")
            raise Malformed(self._path, "not a chunk", line=row + 1, hint=wrong.hint) from error


def read_vectors(folder: Path, manifest: IndexManifest) -> Vectors:
    """The vectors of a generation, read from the disk as they are needed."""
    path = folder / VECTORS
    try:
        vectors: Vectors = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError) as error:
        raise damaged_index(path, manifest.domain, "not an array of vectors") from error
    shape = (manifest.chunks, manifest.dimensions)
    if vectors.shape != shape or vectors.dtype != np.float32:
        what = f"{vectors.dtype} {list(vectors.shape)} instead of float32 {list(shape)}"
        raise damaged_index(path, manifest.domain, what)
    return vectors


def read_ids(folder: Path, manifest: IndexManifest) -> list[str]:
    """The ids of a generation's chunks, in the order of their rows."""
    path = folder / IDS
    try:
        ids = np.load(path, allow_pickle=False).astype(str).tolist()
    except (OSError, ValueError, EOFError) as error:
        raise damaged_index(path, manifest.domain, "not an array of ids") from error
    if len(ids) != manifest.chunks:
        raise damaged_index(path, manifest.domain, f"{len(ids)} ids instead of {manifest.chunks}")
    return list(ids)


def _write_rows(
    folder: Path, chunks: Sequence[Chunk], ids: Sequence[str], vectors: Vectors
) -> None:
    if len(vectors) != len(chunks) or not np.isfinite(vectors).all():
        raise BenchError("the embedding model did not give one finite vector per chunk")
    with disk_errors(folder):
        with (folder / CHUNKS).open("wb") as file:
            for chunk in chunks:
                line = json.dumps(vars(chunk), ensure_ascii=False) + "\n"
                # Half a surrogate pair is written as JSON writes it.
                file.write(line.encode("utf-8", "backslashreplace"))
        np.save(folder / IDS, np.array(ids, dtype="S16"), allow_pickle=False)
        np.save(folder / VECTORS, np.asarray(vectors, dtype=np.float32), allow_pickle=False)
