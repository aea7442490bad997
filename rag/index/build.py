"""Build of a knowledge base, from nothing or from its published generation.

What did not change is not done again: a file with the same hash is neither read nor split, a chunk
that was there keeps its vector, and where nothing at all changed there is no new generation.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from domainlift import __version__
from domainlift.errors import Malformed, Misuse
from domainlift.files import timestamp
from domainlift.optional import installed_versions
from domainlift.text.terms import ANALYSER
from rag.base import Chunk, Embedder, Vectors
from rag.corpus.chunks import SIZE, split_text
from rag.corpus.collect import Contents, Counts, collect, count_changes, documents, key
from rag.corpus.documents import load_file
from rag.corpus.readers.base import SourceFile
from rag.index.bm25 import BM25Index
from rag.index.chroma_store import new_location
from rag.index.index import Changes, Progress, no_progress, write_index
from rag.index.manifest import IndexManifest, check_sums, list_files
from rag.index.published import PublishedGeneration
from rag.index.store import GenerationWriter, KnowledgeBaseStore
from rag.index.weight import choose_weight

if TYPE_CHECKING:
    from langchain_core.documents import Document

    from rag.corpus.collect import Load

    #: Takes a document, the model's way to count tokens, the wished size and the greatest.
    Split = Callable[[Document, Callable[[str], int], int, int], Sequence[Chunk]]

#: Above this share of changed rows a Chroma index is made afresh: changes wear its graph out.
MOST_CHURN = 0.2


@dataclass(frozen=True)
class BuildOptions:
    """What decides a build besides its files.

    `embedder` loads its weights only when there is something to split or to embed. `size` is the
    wished length of a chunk in its tokens. `chroma` is the URL of a server, None for the embedded
    store. `rebuild` takes over nothing of what was built before. `load` reads a file, and `split`
    cuts a document.
    """

    embedder: Embedder
    size: int = SIZE
    chroma: str | None = None
    rebuild: bool = False
    load: Load = load_file
    split: Split = split_text


@dataclass(frozen=True)
class BuildReport:
    """Result of a build. `added`, `updated`, `skipped` and `deleted` count documents.

    `refused` are files that could not be read, with the reason; `missing` are sources that were
    not there.
    """

    domain: str
    generation: str
    documents: int
    chunks: int
    added: int
    updated: int
    skipped: int
    deleted: int
    seconds: float
    refused: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()


def build_index(
    root: Path,
    domain: str,
    files: Sequence[SourceFile],
    options: BuildOptions,
    *,
    missing: Sequence[str] = (),
    progress: Progress = no_progress,
) -> BuildReport:
    """Make the domain's knowledge base hold what is in `files`, and nothing else."""
    start = time.monotonic()
    with KnowledgeBaseStore(root).writing(domain) as writer:
        last = _last(writer, options)
        refused: tuple[str, ...] = ()
        if last is not None and _unchanged(files, last.manifest, options):
            manifest, counts = last.manifest, Counts(skipped=last.manifest.documents)
        else:
            job = _Job(writer, options, last, progress)
            manifest, counts, refused = job.run(files)
    return BuildReport(
        domain,
        manifest.generation,
        manifest.documents,
        manifest.chunks,
        **asdict(counts),
        seconds=round(time.monotonic() - start, 3),
        refused=refused,
        missing=tuple(missing),
    )


class _Job:
    """One build that has something to do."""

    def __init__(
        self,
        writer: GenerationWriter,
        options: BuildOptions,
        last: PublishedGeneration | None,
        say: Progress,
    ) -> None:
        self.writer = writer
        self.options = options
        self.model = options.embedder
        self.last = last
        self.base = None if options.rebuild else last
        self.say = say

    def run(self, files: Sequence[SourceFile]) -> tuple[IndexManifest, Counts, tuple[str, ...]]:
        if self.base is not None:  # damage is not to be taken over
            check_sums(self.base.folder, self.base.manifest)
        contents = self._gather(files)
        refused = tuple(contents.refused)
        if not contents.chunks:
            hint = "; ".join(refused[:3]) if refused else "give files: `--source PATH`"
            raise Misuse(f"no text for knowledge base `{self.writer.domain}`", hint)
        counts = count_changes(
            self.last.documents() if self.last is not None else set(), documents(contents.chunks)
        )
        base = self.base.manifest if self.base is not None else None
        if base and _alike(base, self.options) and list(base.sources) == contents.sources:
            return base, counts, refused  # all that changed are files that are refused
        return self._make(contents), counts, refused

    def _gather(self, files: Sequence[SourceFile]) -> Contents:
        size = self.options.size

        def cut(document: Document) -> Sequence[Chunk]:
            return self.options.split(document, self.model.count, size, self.model.max_tokens)

        usable = self.base is not None and self.base.manifest.size == size
        kept = self.base.by_file() if self.base is not None and usable else {}
        return collect(files, kept, self.options.load, cut, self.say)

    def _make(self, contents: Contents) -> IndexManifest:
        ids = [chunk.id for chunk in contents.chunks]
        vectors, new = self._vectors(contents.chunks, ids)
        changes = self._changes(ids, new)
        draft = self._draft(contents, ids, vectors.shape[1], changes)
        folder = self.writer.fresh()
        place = new_location(folder, draft.domain, draft.generation, draft.chroma)
        write_index(place, contents.chunks, vectors, draft.marks, changes=changes, say=self.say)
        weight = self._weight(folder, contents.chunks, vectors, new)
        manifest = replace(draft, files=list_files(folder), weight=weight)
        self.writer.publish(folder, manifest)
        return manifest

    def _weight(
        self, folder: Path, chunks: Sequence[Chunk], vectors: Vectors, new: Sequence[int]
    ) -> float | None:
        """The weight of BM25; where nothing was embedded, that of before."""
        if self.base is not None and not new and not self.base.manifest.stale:
            return self.base.manifest.weight
        self.say("weight", 0, 1)
        weight = choose_weight(chunks, vectors, BM25Index.open(folder), self.model.encode_queries)
        self.say("weight", 1, 1)
        return weight

    def _vectors(self, chunks: Sequence[Chunk], ids: Sequence[str]) -> tuple[Vectors, list[int]]:
        """The vectors of all chunks, and the rows of those that had to be embedded."""
        rows = self.base.rows if self.base is not None else {}
        new = [row for row, id_ in enumerate(ids) if id_ not in rows]

        def notify(done: int, total: int) -> None:
            self.say("embed", done, total)

        def embed() -> Vectors:
            return self.model.encode([chunks[row].indexed for row in new], notify)

        if self.base is None:
            return embed(), new
        old = self.base.vectors
        vectors = np.empty((len(ids), old.shape[1]), np.float32)
        kept = [row for row, id_ in enumerate(ids) if id_ in rows]
        vectors[kept] = old[[rows[ids[row]] for row in kept]]
        if new:
            vectors[new] = embed()
        return vectors, new

    def _changes(self, ids: Sequence[str], new: Sequence[int]) -> Changes | None:
        """The difference from the last index; None where a fresh one is better or the only way."""
        base = self.base
        if base is None or base.manifest.size != self.options.size:
            return None
        if base.manifest.chroma is not None or self.options.chroma is not None:
            return None
        changes = Changes(base.folder, sorted(base.rows.keys() - set(ids)), new)
        return changes if self._churn(changes) <= MOST_CHURN * len(ids) else None

    def _churn(self, changes: Changes | None) -> int:
        if changes is None or self.base is None:
            return 0
        return self.base.manifest.churn + len(changes.removed) + len(changes.added)

    def _draft(
        self, contents: Contents, ids: Sequence[str], dimensions: int, changes: Changes | None
    ) -> IndexManifest:
        """The manifest, but for the files, which are not written yet."""
        options = self.options
        # One digest, one model: its limit is known without loading it again.
        limit = self.base.manifest.limit if self.base is not None else self.model.max_tokens
        content = [options.embedder.digest, dimensions, options.size, limit, ids, ANALYSER]
        return IndexManifest(
            domain=self.writer.domain,
            generation=self.writer.name(sha256(json.dumps(content).encode()).hexdigest()),
            created=timestamp(),
            sources=tuple(contents.sources),
            documents=contents.documents,
            chunks=len(ids),
            embedder=options.embedder.name,
            digest=options.embedder.digest,
            dimensions=dimensions,
            size=options.size,
            limit=limit,
            versions={"domainlift": __version__, **installed_versions("chromadb", "bm25s")},
            chroma=options.chroma,
            churn=self._churn(changes),
            files={},
            analyser=ANALYSER,
        )


def _last(writer: GenerationWriter, options: BuildOptions) -> PublishedGeneration | None:
    try:
        current = writer.current()
    except Malformed:
        if options.rebuild:
            return None
        raise
    if current is None:
        return None
    last = PublishedGeneration(*current)
    if not options.rebuild and last.manifest.digest != options.embedder.digest:
        raise _other_model(last.manifest, options.embedder)
    return last


def _other_model(manifest: IndexManifest, wanted: Embedder) -> Misuse:
    built = f"`{manifest.embedder}` ({manifest.digest.split(':')[-1][:8]})"
    asked = f"`{wanted.name}` ({wanted.digest.split(':')[-1][:8]})"
    return Misuse(
        f"knowledge base `{manifest.domain}` was built with {built}, not with {asked}, "
        "and vectors of two models are not comparable",
        f"embed everything anew: `bench kb build {manifest.domain} --rebuild`, or keep the model",
    )


def _unchanged(files: Sequence[SourceFile], manifest: IndexManifest, options: BuildOptions) -> bool:
    """Whether the manifest shows that nothing has to be done."""
    keys = [key(source) for source in manifest.sources]
    return keys == [key(file) for file in files] and _alike(manifest, options)


def _alike(manifest: IndexManifest, options: BuildOptions) -> bool:
    wanted = (False, options.size, options.chroma, False)
    return (options.rebuild, manifest.size, manifest.chroma, manifest.stale) == wanted
