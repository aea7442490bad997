"""BM25 index over stemmed words, by bm25s."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from domainlift.files import disk_errors
from domainlift.optional import need

FOLDER = "bm25"

Ranked = list[tuple[int, float]]


def write_bm25(folder: Path, texts: Sequence[str]) -> None:
    """Index texts; where they hold no word at all, there is no index."""
    bm25s = need("bm25s")
    words = _words(texts, ids=True)
    if not words.vocab:
        return
    index = bm25s.BM25(method="lucene", backend="numpy")
    index.index(words, show_progress=False)
    with disk_errors(folder):
        index.save(folder / FOLDER, show_progress=False)


class BM25Index:
    """An opened index."""

    def __init__(self, folder: Path) -> None:
        self._index: Any = None
        if (folder / FOLDER).is_dir():
            bm25s = need("bm25s")
            self._index = bm25s.BM25.load(folder / FOLDER, mmap=True, show_progress=False)

    def query(self, texts: Sequence[str], k: int) -> list[Ranked]:
        """The k best rows per text, best first; rows that share no word with it are left out."""
        return [self._best(words, k) for words in _words(texts, ids=False)]

    def _best(self, words: list[str], k: int) -> Ranked:
        import numpy as np

        # One by one and without `retrieve`: its threads and progress bars cost more than they give.
        if self._index is None or not (known := self._index.get_tokens_ids(words)):
            return []
        scores = self._index.get_scores_from_ids(known)
        k = min(k, len(scores))
        rows = np.argpartition(scores, -k)[-k:] if k < len(scores) else np.arange(k)
        rows = rows[np.lexsort((rows, -scores[rows]))]
        return [(int(row), float(scores[row])) for row in rows if scores[row] > 0]


def _words(texts: Sequence[str], *, ids: bool) -> Any:
    """Words of documents and of questions alike: lower case, no stop words, stems.

    Numbers with their vocabulary where `ids` is true, which is faster for many texts.
    """
    bm25s, stemmer = need("bm25s"), need("Stemmer")
    # A stemmer of this call's own: one may not be shared by threads.
    english = stemmer.Stemmer("english")
    return bm25s.tokenize(
        list(texts), stopwords="en", stemmer=english, return_ids=ids, show_progress=False
    )
