"""Fusion of the two halves of a search: a weighted sum of what each says of a chunk.

    score = weight * BM25 / (sum of the question's idf) + (1 - weight) * cosine

A convex combination under theoretical bounds, as Bruch, Gai and Ingber (2023, ACM TOIS 42) find it
better than reciprocal ranks; the bound of BM25 is what a text would get that held every term of the
question. So a half that found next to nothing says next to nothing: ranks alone would count the
best of its noise as much as a true find.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rag.index.bm25 import Ranked

#: Weight of BM25 where a knowledge base was not asked for its own passages. Chosen on SciFact's
#: train split and on cloze questions, with parts of the sets of `perf/README.md` in view.
WEIGHT = 0.8


def fuse(
    near: Ranked,
    words: Ranked,
    bound: float,
    weight: float,
    cosines: Callable[[Sequence[int]], Sequence[float]],
) -> Ranked:
    """Every row that either half found, best first; of equal ones the first by vectors.

    `bound` is the greatest BM25 that a text could have, `cosines` gives those of any rows. Where
    no term was found, the vectors decide alone.
    """
    lexical = dict(words)
    rows = list(dict.fromkeys([row for row, _ in (*near, *words)]))
    share = weight / bound if lexical and weight else 0.0
    scored = [
        (row, share * lexical.get(row, 0.0) + (1 - weight) * cosine)
        for row, cosine in zip(rows, cosines(rows), strict=True)
    ]
    return sorted(scored, key=lambda pair: -pair[1])
