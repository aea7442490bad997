"""Files, a reader, a splitter and an embedding model, all small and true, for knowledge bases.

A file holds one document per line, `name: text`. Also runs as a program that builds, to be killed.
"""

from __future__ import annotations

import os
import re
import sys
import time
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from domainlift.errors import Malformed
from rag.base import Chunk, Notify
from rag.corpus.documents import Loaded
from rag.corpus.readers.base import SourceFile
from rag.index.build import BuildOptions, BuildReport, build_index
from rag.index.index import Progress, no_progress

if TYPE_CHECKING:
    from rag.base import Vectors


@dataclass(frozen=True)
class Paper:
    """A document."""

    page_content: str
    metadata: dict[str, str]


@dataclass
class WordBag:
    """Adds up a fixed random vector per word: texts that share words are near each other."""

    name: str = "word-bag"
    digest: str = "sha256:0123456789abcdef"
    dimensions: int = 32
    max_tokens: int = 256
    pause: float = 0.0
    embedded: list[str] = field(default_factory=list)
    uses: int = 0

    def count(self, text: str) -> int:
        self.uses += 1
        return len(text.split()) + 2

    def encode(self, texts: Sequence[str], notify: Notify | None = None) -> Vectors:
        self.uses += 1
        self.embedded += texts
        for done in range(len(texts)):
            time.sleep(self.pause)
            if notify is not None:
                notify(done + 1, len(texts))
        return self.encode_queries(texts)

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        vectors = np.zeros((len(texts), self.dimensions), np.float32)
        for row, text in enumerate(texts):
            for word in re.findall(r"\w+", text.lower()):
                seed = zlib.crc32(f"{self.digest} {word}".encode())
                vectors[row] += np.random.default_rng(seed).normal(size=self.dimensions)
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        return vectors / np.where(norms == 0, 1, norms)


class Shelf:
    """A folder of source files and the knowledge bases made of them."""

    def __init__(self, folder: Path) -> None:
        self.papers = folder / "papers"
        self.root = folder / "knowledge_bases"
        self.papers.mkdir(parents=True, exist_ok=True)
        self.bag = WordBag()
        self.read_files: list[str] = []

    def put(self, label: str, *lines: str) -> None:
        (self.papers / label).write_text("\n".join(lines), encoding="utf-8")

    def drop(self, label: str) -> None:
        (self.papers / label).unlink()

    def files(self) -> list[SourceFile]:
        return [
            SourceFile(path.name, path, sha256(path.read_bytes()).hexdigest(), "CC0")
            for path in sorted(self.papers.iterdir())
        ]

    def recipe(
        self, *, size: int = 8, rebuild: bool = False, chroma: str | None = None
    ) -> BuildOptions:
        return BuildOptions(self.bag, size, chroma, rebuild, self.load, split)

    def build(
        self,
        domain: str = "biology",
        *,
        size: int = 8,
        rebuild: bool = False,
        chroma: str | None = None,
        progress: Progress = no_progress,
    ) -> BuildReport:
        recipe = self.recipe(size=size, rebuild=rebuild, chroma=chroma)
        return build_index(self.root, domain, self.files(), recipe, progress=progress)

    def load(self, page: SourceFile) -> Loaded:
        self.read_files.append(page.label)
        return Loaded(tuple(read(page)))


def read(page: SourceFile) -> Iterable[Paper]:
    lines = page.path.read_text(encoding="utf-8").rstrip("\n").split("\n")
    for number, line in enumerate(lines if lines != [""] else [], 1):
        name, colon, text = line.partition(": ")
        if not colon:
            raise Malformed(page.path, "no name", line=number)
        yield Paper(text, {"source": f"{page.label}/{name}", "licence": page.licence})


def split(paper: Paper, count: Callable[[str], int], size: int, limit: int) -> Sequence[Chunk]:
    """`size` words each; the name of the document is the heading."""
    assert count(paper.page_content) > 0
    assert size <= limit
    words, chunks, offset = paper.page_content.split(), [], 0
    source, licence = paper.metadata["source"], paper.metadata["licence"]
    digest = sha256(paper.page_content.encode()).hexdigest()
    for start in range(0, len(words), size):
        text = " ".join(words[start : start + size])
        heading = source.partition("/")[2]
        chunks.append(Chunk(text, source, heading, licence, offset, digest))
        offset += len(text) + 1
    return chunks


def main() -> None:
    """Build in the folder given, in a new process per pair of lines of stdin, and tell its id.

    Forks, because importing Chroma takes longer than a build.
    """
    import bm25s  # noqa: F401
    import chromadb  # noqa: F401
    import Stemmer  # noqa: F401

    print("ready", flush=True)
    while sys.stdin.readline():
        child = os.fork()
        if child == 0:
            Shelf(Path(sys.argv[1])).build()
            os._exit(0)
        print(child, flush=True)
        sys.stdin.readline()  # until then its id stays its own, even when it has ended
        print(os.waitpid(child, 0)[1], flush=True)


if __name__ == "__main__":
    main()
