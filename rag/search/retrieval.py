"""Retriever of passages: dense and lexical search, fused, without near-duplicates."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import TYPE_CHECKING

from domainlift.errors import Misuse
from domainlift.text.terms import ANALYSER
from rag.base import Hit, Vectors
from rag.search.fusion import WEIGHT, fuse

if TYPE_CHECKING:
    from rag.index.bm25 import Ranked
    from rag.index.index import Index

#: Embeds questions, [questions, dimensions].
Encode = Callable[[Sequence[str]], "Vectors"]
#: Scores pairs of question and text; higher fits better.
Rerank = Callable[[Sequence[tuple[str, str]]], Sequence[float]]
METHODS = ("hybrid", "dense", "bm25")


@dataclass(frozen=True)
class Retrieval:
    """Options of retrieval.

    Both methods give their best `depth` chunks, which are fused; `weight` is that of BM25, None for
    the knowledge base's own. Of chunks whose vectors have a cosine of at least `duplicate` only the
    best stays. `reranked` chunks are given to the reranker, if there is one.
    """

    method: str = "hybrid"
    depth: int = 100
    duplicate: float = 0.98
    reranker: str | None = None
    reranked: int = 30
    weight: float | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise Misuse(f"no way of searching `{self.method}`", f"known: {', '.join(METHODS)}")
        if self.weight is not None and not 0 <= self.weight <= 1:
            raise Misuse(f"`weight` is {self.weight}, but lies between 0 and 1")

    @property
    def digest(self) -> str:
        """Changes with anything that changes what is found."""
        # What was an option once is still named, so that gates and runs of before are found.
        parts = [*sorted({**asdict(self), "mmr": None}.items()), ANALYSER]
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:16]


class Retriever:
    """Searches one knowledge base for many questions at once."""

    def __init__(
        self,
        index: Index,
        encode: Encode,
        settings: Retrieval | None = None,
        rerank: Rerank | None = None,
    ) -> None:
        self.index = index
        self.settings = settings if settings is not None else Retrieval()
        self.encode = encode
        self._rerank = rerank

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        """The best `k` chunks for each question, best first; BM25 alone embeds nothing."""
        if not queries:
            return []
        depth = max(k, self.settings.depth)
        if self.settings.method == "bm25":
            found = zip(queries, self.index.bm25(queries, depth), strict=True)
            return [self._chosen(query, None, words, words, k) for query, words in found]
        vectors = self.encode(queries)
        dense = self.index.dense(vectors, depth)
        if self.settings.method == "dense":
            near_each = zip(queries, vectors, dense, strict=True)
            return [self._chosen(query, vector, near, [], k) for query, vector, near in near_each]
        lexical, bounds = self.index.bm25(queries, depth), self.index.bounds(queries)
        return [
            self._chosen(query, vector, self._fused(vector, near, words, bound), words, k)
            for query, vector, near, words, bound in zip(
                queries, vectors, dense, lexical, bounds, strict=True
            )
        ]

    def _fused(self, vector: Vectors, near: Ranked, words: Ranked, bound: float) -> Ranked:
        own, stored = self.settings.weight, self.index.manifest.weight
        weight = next((w for w in (own, stored) if w is not None), WEIGHT)
        return fuse(near, words, bound, weight, partial(self.index.cosines, vector))

    def _chosen(
        self, query: str, vector: Vectors | None, fused: Ranked, words: Ranked, k: int
    ) -> list[Hit]:
        if self._rerank is not None:
            fused = self._reranked(query, fused)
        rows = [row for row, _ in fused]
        if not rows:
            return []
        own = self.index.vectors[rows]
        kept = without_duplicates(own, self.settings.duplicate, k)
        lexical = dict(words)
        cosines = (own @ vector).tolist() if vector is not None else None
        return [
            Hit(
                chunk=self.index.chunks[rows[place]],
                rank=rank,
                score=fused[place][1],
                dense=cosines[place] if cosines is not None else None,
                bm25=lexical.get(rows[place]),
            )
            for rank, place in enumerate(kept, 1)
        ]

    def _reranked(self, query: str, fused: Ranked) -> Ranked:
        best = fused[: self.settings.reranked]
        if self._rerank is None or not best:
            return best
        scores = self._rerank([(query, self.index.chunks[row].indexed) for row, _ in best])
        scored = [(row, float(score)) for (row, _), score in zip(best, scores, strict=True)]
        return sorted(scored, key=lambda pair: -pair[1])


def without_duplicates(vectors: Vectors, limit: float, most: int) -> list[int]:
    """Places of rows, in order, that are no near-duplicates of an earlier one; at most `most`."""
    kept: list[int] = []
    for place in range(len(vectors)):
        if len(kept) == most:
            break
        if not kept or float((vectors[kept] @ vectors[place]).max()) < limit:
            kept.append(place)
    return kept
