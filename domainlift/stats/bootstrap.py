"""Bootstrap over questions, for values that are not shares of right answers.

A value is a function of sums of statistics over questions (BLEU's n-gram counts, a log-likelihood
and its number of words), so that a value of a corpus is resampled as such, and a mean is the
simplest case. Clusters are drawn whole (Cameron, Gelbach and Miller 2008, Review of Economics and
Statistics 90), the interval is the percentile one of Efron (1979, Annals of Statistics 7).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

from domainlift.stats.intervals import Interval

#: The value of the sums of some questions' statistics.
ValueOfSums = Callable[[Sequence[float]], float]
#: Samples that are drawn, always the same ones.
DRAWS, SEED = 1000, 0
_AT_ONCE = 100


def column_sums(rows: Sequence[Sequence[float]]) -> list[float]:
    """The sum of each column."""
    return [math.fsum(column) for column in zip(*rows, strict=True)]


def bootstrap_interval(
    rows: Sequence[Sequence[float]], clusters: Sequence[str], value: ValueOfSums
) -> Interval | None:
    """The 95 % interval of a value; None of a single cluster, which tells of no spread.

    A row has the statistics of one question; one with an empty cluster stands alone.
    """
    drawn = sorted(map(value, _resampled(rows, clusters)))
    return _percentiles(drawn) if drawn else None


def bootstrap_change(
    before: Sequence[Sequence[float]],
    after: Sequence[Sequence[float]],
    clusters: Sequence[str],
    value: ValueOfSums,
) -> tuple[Interval | None, float]:
    """The 95 % interval of a paired change, and the two-sided p of no change.

    Both sides are drawn together, question by question. The p is twice the smaller share of
    samples on one side of zero, each with one added, so that it is never 0.
    """
    width = len(before[0]) if before else 0
    both = [(*old, *new) for old, new in zip(before, after, strict=True)]
    drawn = sorted(value(sums[width:]) - value(sums[:width]) for sums in _resampled(both, clusters))
    if not drawn:
        return None, 1.0
    sides = (sum(d <= 0 for d in drawn), sum(d >= 0 for d in drawn))
    return _percentiles(drawn), min(1.0, 2 * (min(sides) + 1) / (len(drawn) + 1))


def _resampled(
    rows: Sequence[Sequence[float]], clusters: Sequence[str]
) -> Iterator[Sequence[float]]:
    """The sums of each sample of clusters; none where there are fewer than two."""
    import numpy as np

    groups: dict[str | int, list[float]] = {}
    for place, (row, cluster) in enumerate(zip(rows, clusters, strict=True)):
        key = cluster or place
        known = groups.get(key)
        groups[key] = [*row] if known is None else [a + b for a, b in zip(known, row, strict=True)]
    if len(groups) < 2:
        return
    sums = np.array(list(groups.values()), dtype=float)
    shares = np.full(len(groups), 1 / len(groups))
    random = np.random.default_rng(SEED)
    for _ in range(DRAWS // _AT_ONCE):
        yield from (random.multinomial(len(groups), shares, size=_AT_ONCE) @ sums).tolist()


def _percentiles(drawn: Sequence[float]) -> Interval:
    """The ends of the middle 95 % of sorted values."""
    outside = len(drawn) // 40
    return Interval(drawn[outside], drawn[-outside - 1])
