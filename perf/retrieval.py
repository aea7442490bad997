"""Query latency at 50,000 chunks, alone and batched, against LangChain's Chroma retriever.

BENCH_DATA=FOLDER python -m perf.retrieval --chunks 50000

The chunks are real text; their vectors are sums of fixed random word vectors, since the time of a
search does not depend on what the vectors mean. The questions are real too, and where it says
"with embedding" they go through all-MiniLM-L6-v2.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from perf.shapes import mirror, question_texts

if TYPE_CHECKING:
    from rag.base import Vectors

_DIMENSIONS = 384
_K = 10
_SINGLE = 300


class WordVectors:
    """Sums of fixed random vectors, one per word; fast, and texts that share words are near."""

    name, digest, dimensions, max_tokens = "word-vectors", "word-vectors-7", _DIMENSIONS, 512

    def __init__(self) -> None:
        self._known: dict[str, Any] = {}

    def count(self, text: str) -> int:
        """Words, for tokens."""
        return len(text.split())

    def encode(self, texts: Sequence[str], notify: Any = None) -> Vectors:
        """Embed texts, [texts, dimensions]."""
        import zlib

        import numpy as np

        made = np.zeros((len(texts), _DIMENSIONS), np.float32)
        for row, text in enumerate(texts):
            for word in set(text.lower().split()):
                if word not in self._known:
                    seed = zlib.crc32(word.encode())
                    vector = np.random.default_rng(seed).standard_normal(_DIMENSIONS)
                    self._known[word] = vector.astype(np.float32)
                made[row] += self._known[word]
        lengths = np.linalg.norm(made, axis=1, keepdims=True)
        unit: Vectors = (made / np.where(lengths == 0, 1, lengths)).astype(np.float32)
        return unit

    def encode_queries(self, texts: Sequence[str]) -> Vectors:
        """Embed questions."""
        return self.encode(texts)


def main() -> None:
    """Build the index once, then measure."""
    parser = argparse.ArgumentParser(description="latency of retrieval")
    parser.add_argument("--chunks", type=int, default=50_000)
    parser.add_argument("--queries", type=int, default=1_000)
    settings = parser.parse_args()
    from rag.embedding.sentence import SentenceEmbedder
    from rag.index.index import open_index
    from rag.search.retrieval import Retriever

    with tempfile.TemporaryDirectory() as folder:
        words = WordVectors()
        _build(Path(folder), words, settings.chunks)
        queries = question_texts(settings.queries)
        minilm = SentenceEmbedder.find("all-MiniLM-L6-v2")
        minilm.encode_queries(queries[:8])
        with open_index(Path(folder), "perf") as index:
            plain = Retriever(index, words.encode_queries)
            vectors = words.encode_queries(queries)
            embedded = Retriever(index, minilm.encode_queries)
            print(f"{len(index.chunks):,} chunks, {_DIMENSIONS} dimensions, k {_K}\n")
            print("|  | p50 ms | p99 ms |\n|---|---|---|")
            _row("hybrid, without embedding", queries, vectors, plain)
            single = queries[:_SINGLE]
            _each("dense alone", [partial(index.dense, vector[None], 100) for vector in vectors])
            _each("BM25 alone", [partial(index.bm25, [query], 100) for query in single])
            calls = [partial(embedded.search, [query], _K) for query in single]
            _each("hybrid, with embedding", calls)
            _against_langchain(Path(folder), queries, minilm, embedded)


def _row(label: str, queries: Sequence[str], vectors: Vectors, retriever: Any) -> None:
    calls = [
        partial(retriever.search_vectors, [query], vector[None], _K)
        for query, vector in zip(queries[:_SINGLE], vectors, strict=False)
    ]
    _each(label, calls)


def _each(label: str, calls: Sequence[Callable[[], object]]) -> None:
    """Time each call by itself, after a few that warm up."""
    for call in calls[:5]:
        call()
    times = []
    for call in calls:
        start = time.perf_counter()
        call()
        times.append(1000 * (time.perf_counter() - start))
    times.sort()
    print(f"| {label} | {times[len(times) // 2]:.2f} | {times[int(len(times) * 0.99)]:.2f} |")


def _against_langchain(folder: Path, queries: Sequence[str], minilm: Any, retriever: Any) -> None:
    import chromadb
    from chromadb.config import Settings
    from langchain_chroma import Chroma
    from langchain_core.embeddings import Embeddings

    class Model(Embeddings):
        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            return minilm.encode(texts).tolist()  # type: ignore[no-any-return]

        def embed_query(self, text: str) -> list[float]:
            return minilm.encode_queries([text])[0].tolist()  # type: ignore[no-any-return]

    store = next(folder.glob("perf/g*/chroma"))
    settings = Settings(anonymized_telemetry=False)
    client = chromadb.PersistentClient(str(store), settings=settings)
    name = client.list_collections()[0].name
    theirs = Chroma(client=client, collection_name=name, embedding_function=Model()).as_retriever(
        search_kwargs={"k": _K}
    )
    theirs.invoke(queries[0])
    start = time.perf_counter()
    for query in queries:
        theirs.invoke(query)
    one_by_one = time.perf_counter() - start
    start = time.perf_counter()
    retriever.search(queries, _K)
    batched = time.perf_counter() - start
    a, b = (1000 * seconds / len(queries) for seconds in (one_by_one, batched))
    print(f"\n{len(queries):,} queries, embedding included (LangChain's is dense only):\n")
    print(
        "|  | LangChain's Chroma retriever, one by one (dense) | ours, batched (hybrid) | ratio |"
    )
    print("|---|---|---|---|")
    print(f"| ms per query | {a:.2f} | {b:.2f} | {a / b:.2f} |")


def _build(root: Path, words: WordVectors, count: int) -> None:
    from knowledge_bases.sources import Source
    from rag.corpus.source_files import find_files
    from rag.index.build import build_index
    from rag.index.build_options import BuildOptions

    found = find_files([Source("mirror:textbooks", "", "")], folder=mirror(), data=mirror())
    # The length of a chunk, in words, that makes about so many of 3.3 million words.
    recipe = BuildOptions(words, size=max(16, 4_800_000 // count))
    build_index(root, "perf", found.files, recipe)


if __name__ == "__main__":
    main()
