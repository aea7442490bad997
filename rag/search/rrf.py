"""Reciprocal rank fusion: one ranking out of several, by their ranks alone."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TypeVar

Row = TypeVar("Row", bound=Hashable)

#: How much the first ranks stand out; the value of Cormack, Clarke and Büttcher (2009, SIGIR).
CONSTANT = 60


def fuse(
    rankings: Sequence[Sequence[Row]],
    *,
    k: int = CONSTANT,
    weights: Sequence[float] | None = None,
) -> list[tuple[Row, float]]:
    """Return every ranked row with its sum of weight / (k + rank), highest first.

    Ranks count from 1; a row that stands twice in one ranking counts where it stands first, and
    one that a ranking does not hold gets nothing from it. Of equal sums the row that an earlier
    ranking holds, or holds higher, comes first. A ranking of weight 0 is as good as absent.
    """
    shares = _shares(len(rankings), k, weights)
    scores: dict[Row, float] = {}
    for ranking, share in zip(rankings, shares, strict=True):
        if share:
            for rank, row in enumerate(dict.fromkeys(ranking), 1):
                scores[row] = scores.get(row, 0.0) + share / (k + rank)
    # A dict keeps the order in which rows came and sorting is stable: that is the rule for ties.
    return sorted(scores.items(), key=lambda pair: -pair[1])


def _shares(count: int, k: int, weights: Sequence[float] | None) -> Sequence[float]:
    if k < 0:
        raise ValueError(f"k is {k}, but ranks must stay above 0")
    if weights is None:
        return [1.0] * count
    if len(weights) != count:
        raise ValueError(f"{len(weights)} weights for {count} rankings")
    if not all(0 <= weight < float("inf") for weight in weights):
        raise ValueError("a weight must be a finite number that is not below 0")
    return weights
