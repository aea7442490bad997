"""Selection of training rows: those that cover what is sought, diverse, the most useful first.

The words of each row are weighted by tf-idf; the weight of a word in the targets (questions that
the model got wrong, passages of a knowledge base) is what covering it is worth. Chosen is what
maximises the sum over words of weight x sqrt(coverage), a feature-based submodular function
(Kirchhoff and Bilmes, "Submodularity for data selection in statistical machine translation",
2014): a word that is covered already is worth less, so that another wording of a fact waits until
the other facts had their turn. Lazy greedy search (Minoux, 1978) comes within 1 - 1/e of the best.
"""

from __future__ import annotations

import heapq
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from domainlift.optional import need
from finetune.data.cleaning import prompt_text
from finetune.data.rows import Row

Floats = NDArray[np.float64]

#: Hashed words; of a prompt the end is read, where the question stands, of an answer the beginning.
_FEATURES = 2**18
_PROMPT, _ANSWER = 400, 200
_WORD = re.compile(r"\w+")


@dataclass(frozen=True)
class RowSelection:
    """Chosen rows, the most useful first, and the target that each is nearest to, if any."""

    rows: tuple[Row, ...]
    reasons: tuple[str, ...] = ()


def select_rows(
    rows: Sequence[Row], size: int, targets: Mapping[str, Sequence[str]]
) -> RowSelection:
    """Choose `size` rows that cover the texts of the targets, each target as much as the others.

    Without any text the rows themselves are the target. The same input gives the same rows.
    """
    if size >= len(rows):
        return RowSelection(tuple(rows))
    vectors = _Vectors([_text(row) for row in rows])
    profiles = {name: vectors.profile(texts) for name, texts in targets.items() if texts}
    worth = np.sum(list(profiles.values()), axis=0) if profiles else vectors.mean
    places = _greedy(vectors.rows, worth, size)
    chosen = tuple(rows[place] for place in places)
    return RowSelection(chosen, _reasons(vectors.rows[places], profiles) if profiles else ())


def _text(row: Row) -> str:
    return f"{prompt_text(row)[-_PROMPT:]} {row.completion[:_ANSWER]}"


def _words(text: str) -> list[str]:
    return _WORD.findall(text.casefold())


class _Vectors:
    """Rows as unit vectors of tf-idf, (rows, features), and targets in the same space."""

    def __init__(self, texts: Sequence[str]) -> None:
        text = need("sklearn.feature_extraction.text")
        self._hash = text.HashingVectorizer(
            n_features=_FEATURES, alternate_sign=False, norm=None, analyzer=_words
        )
        self._weigh = text.TfidfTransformer(sublinear_tf=True)
        self.rows: Any = self._weigh.fit_transform(self._hash.transform(texts)).tocsr()
        self.rows.sort_indices()

    @property
    def mean(self) -> Floats:
        """The mean of the rows, (features)."""
        return _unit(self.rows.sum(axis=0))

    def profile(self, texts: Iterable[str]) -> Floats:
        """The mean of texts as a unit vector, (features)."""
        return _unit(self._weigh.transform(self._hash.transform(texts)).sum(axis=0))


def _unit(total: Any) -> Floats:
    flat: Floats = np.asarray(total, dtype=np.float64).ravel()
    return flat / max(float(np.linalg.norm(flat)), 1e-12)


def _greedy(vectors: Any, worth: Floats, size: int) -> list[int]:
    """The places of `size` rows, each the one that adds most to what was chosen before."""
    starts, words, values = vectors.indptr.tolist(), vectors.indices, vectors.data
    covered = np.zeros_like(worth)
    gains = vectors.sqrt() @ worth
    # What a row adds only falls: the best of old gains that is still the best needs no others.
    heap = [(-gain, place) for place, gain in enumerate(gains.tolist())]
    heapq.heapify(heap)
    chosen: list[int] = []
    while len(chosen) < size:
        _, place = heapq.heappop(heap)
        own = slice(starts[place], starts[place + 1])
        before = covered[words[own]]
        after = before + values[own]
        gain = float(worth[words[own]] @ (np.sqrt(after) - np.sqrt(before)))
        if heap and (-gain, place) > heap[0]:
            heapq.heappush(heap, (-gain, place))
            continue
        covered[words[own]] = after
        chosen.append(place)
    return chosen


def _reasons(chosen: Any, profiles: Mapping[str, Floats]) -> tuple[str, ...]:
    """The target that each of the chosen rows is nearest to."""
    names = list(profiles)
    near = np.stack([chosen @ profiles[name] for name in names])
    return tuple(names[best] for best in near.argmax(axis=0).tolist())
