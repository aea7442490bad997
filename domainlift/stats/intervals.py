"""Confidence intervals of an accuracy, the design effect of clusters, and the verdict on a target.

Pure functions over outcomes (1 right, 0 wrong). `docs/statistics.md` explains them to a user.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from enum import StrEnum
from statistics import NormalDist
from typing import NamedTuple

_MOST_FURTHER = 1_000_000


class Interval(NamedTuple):
    """Confidence interval of an accuracy or a difference; both ends belong to it."""

    low: float
    high: float

    def __contains__(self, value: object) -> bool:
        """Say whether `value` lies in the interval."""
        return isinstance(value, int | float) and self.low <= value <= self.high


class Verdict(StrEnum):
    """Verdict of an interval on a target accuracy."""

    STRONG = "strong"
    WEAK = "weak"
    UNCERTAIN = "uncertain"


def wilson(correct: float, n: float, level: float = 0.95) -> Interval:
    """Return the score interval of Wilson (1927, JASA 22) for `correct` out of `n`.

    Brown, Cai and DasGupta (2001, Statistical Science 16) compare it with the others. Here
    it is multiplied through by n, which keeps it finite for any n, and both numbers may be
    fractions, so that `n` can be an effective size. Without any answers it is [0, 1].
    """
    if n <= 0:
        return Interval(0.0, 1.0)
    z = z_value(level)
    share = min(max(correct / n, 0.0), 1.0)
    middle = (share * n + z * z / 2) / (n + z * z)
    half = z / (n + z * z) * math.sqrt(n * share * (1 - share) + z * z / 4)
    # The share always lies inside; rounding must not push it out where it is 0 or 1.
    return Interval(min(share, max(0.0, middle - half)), max(share, min(1.0, middle + half)))


def design_effect(outcomes: Sequence[float], clusters: Sequence[str]) -> float:
    """Return how many times the variance of the mean grows because questions share a passage.

    The ratio of the clustered variance of Miller (2024, arXiv 2411.00640) to the
    simple one. Departures: the clustered variance carries the small-sample factor G / (G - 1) of
    Cameron and Miller (2015, Journal of Human Resources 50), the simple one its usual
    n / (n - 1), so that questions which stand alone give exactly 1; and it is never below 1, as
    seemingly opposed answers within a passage are chance more often than knowledge.

    Where the outcomes cannot tell (one cluster only, or all right, or all wrong), the answers
    within a cluster count as complete copies: sum(m²) / n over the cluster sizes m (Kish 1965,
    Survey Sampling, with a correlation of 1). That is 1 where all stand alone, and n for a
    single cluster.
    """
    groups = _groups(outcomes, clusters)
    n, count = len(outcomes), len(groups)
    if n < 2:
        return 1.0
    mean = math.fsum(outcomes) / n
    spread = math.fsum((outcome - mean) ** 2 for outcome in outcomes)
    if count < 2 or min(outcomes) == max(outcomes):
        return sum(len(group) ** 2 for group in groups) / n
    between = math.fsum((math.fsum(group) - mean * len(group)) ** 2 for group in groups)
    ratio = between / spread * (count / (count - 1)) * ((n - 1) / n)
    # Effective sizes are cut to whole ones: the last bit of a float must not cost a question.
    return max(1.0, round(ratio, 12))


def accuracy_interval(outcomes: Sequence[float], clusters: Sequence[str]) -> Interval:
    """Return the Wilson interval of the mean at the effective size n / design effect.

    The effective size in a binomial interval is the way of Korn and Graubard (1998, Survey
    Methodology 24), who put it into Clopper and Pearson's; Wilson's is less wide.
    """
    design = design_effect(outcomes, clusters)
    return wilson(math.fsum(outcomes) / design, len(outcomes) / design)


def verdict(interval: Interval, target: float) -> Verdict:
    """Return weak if the whole interval lies below the target, strong if none of it does."""
    if interval.high < target:
        return Verdict.WEAK
    return Verdict.STRONG if interval.low >= target else Verdict.UNCERTAIN


def questions_to_settle(accuracy: float, n: int, target: float, design: float = 1.0) -> int | None:
    """Return how many further questions would settle the verdict at an unchanged accuracy.

    0 where it is settled already; None where nothing was answered yet or more than a million
    would be needed. Inverting Wilson's interval gives a total of
    design * z² * target * (1 - target) / (accuracy - target)², which a test holds against this;
    the search asks `verdict` itself, so that the two cannot disagree by a rounding.
    """
    if n <= 0:
        return None

    def settled(further: int) -> bool:
        size = (n + further) / design
        return verdict(wilson(accuracy * size, size), target) is not Verdict.UNCERTAIN

    further = bisect_left(range(_MOST_FURTHER + 1), True, key=settled)
    return further if further <= _MOST_FURTHER else None


def z_value(level: float) -> float:
    """Return the two-sided critical value of the normal distribution."""
    return NormalDist().inv_cdf((1 + level) / 2)


def _groups(outcomes: Sequence[float], clusters: Sequence[str]) -> list[list[float]]:
    """Group the outcomes by cluster; a question with an empty name is a cluster of its own."""
    alone: list[list[float]] = []
    named: dict[str, list[float]] = {}
    for outcome, cluster in zip(outcomes, clusters, strict=True):
        if cluster:
            named.setdefault(cluster, []).append(outcome)
        else:
            alone.append([outcome])
    return alone + list(named.values())
