"""BM25 index over the terms of texts, by bm25s."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from domainlift.files import disk_errors
from domainlift.optional import need
from domainlift.text.terms import analysed, is_extra

FOLDER = "bm25"

Ranked = list[tuple[int, float]]


def write_bm25(folder: Path, texts: Sequence[str]) -> None:
    """Index texts; where they hold no term at all, there is no index."""
    index = _indexed(texts)
    if index is not None:
        with disk_errors(folder):
            index.save(folder / FOLDER, show_progress=False)


class BM25Index:
    """An index that was written, or one of texts, for as long as the process lives."""

    def __init__(self, index: Any) -> None:
        self._index = index

    @classmethod
    def open(cls, folder: Path) -> BM25Index:
        """Open what `write_bm25` wrote."""
        if not (folder / FOLDER).is_dir():
            return cls(None)
        return cls(need("bm25s").BM25.load(folder / FOLDER, mmap=True, show_progress=False))

    @classmethod
    def of(cls, texts: Sequence[str]) -> BM25Index:
        """Index texts in memory."""
        return cls(_indexed(texts))

    def query(self, texts: Sequence[str], k: int) -> list[Ranked]:
        """The k best rows per text, best first; rows that share no term with it are left out."""
        return [self._best(terms, k) for terms in analysed(texts)]

    def bounds(self, texts: Sequence[str]) -> list[float]:
        """For each text the sum of its terms' idf, log(1 + (N - n + 0.5) / (n + 0.5)).

        No row's BM25 (Lucene's variant) is greater. Terms that nobody has count, but for runs of
        characters, which mostly straddle two words, and forms with accents.
        """
        if self._index is None:
            return [0.0] * len(texts)
        rows, starts = self._index.scores["num_docs"], self._index.scores["indptr"]
        known = self._index.vocab_dict

        def idf(term: str) -> float:
            place = known.get(term)
            if place is None and is_extra(term):
                return 0.0
            holding = 0 if place is None else int(starts[place + 1] - starts[place])
            return math.log(1 + (rows - holding + 0.5) / (holding + 0.5))

        return [sum(map(idf, terms)) for terms in analysed(texts)]

    def _best(self, terms: list[str], k: int) -> Ranked:
        # One by one and without `retrieve`: its threads and progress bars cost more than they give.
        if self._index is None or not (known := self._index.get_tokens_ids(terms)):
            return []
        scores = self._index.get_scores_from_ids(known)
        k = min(k, len(scores))
        rows = np.argpartition(scores, -k)[-k:] if k < len(scores) else np.arange(k)
        rows = rows[np.lexsort((rows, -scores[rows]))]
        return [(int(row), float(scores[row])) for row in rows if scores[row] > 0]


def _indexed(texts: Sequence[str]) -> Any:
    terms = list(analysed(texts, indexed=True))
    if not any(terms):
        return None
    index = need("bm25s").BM25(method="lucene", backend="numpy")
    index.index(terms, show_progress=False)
    return index
