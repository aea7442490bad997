"""How sure a score is: intervals, clusters, the test against chance, and the verdict.

Pure functions over outcomes (1 right, 0 wrong). `docs/statistics.md` explains them to a user.
"""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import NormalDist

#: Below this probability a domain is reported as suspiciously below chance: over 15 domains of a
#: model that only guesses, one false warning in about 70 runs (0.05 would warn in every second).
SUSPICIOUS = 0.001

_MOST_FURTHER = 1_000_000


@dataclass(frozen=True)
class Interval:
    """The accuracies that the answers do not speak against; both ends belong to it."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        """Say whether `value` lies in the interval."""
        return self.low <= value <= self.high


class Verdict(StrEnum):
    """What the interval says about the target."""

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
    z = _z(level)
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
    return max(1.0, between / spread * (count / (count - 1)) * ((n - 1) / n))


def accuracy_interval(
    outcomes: Sequence[float], clusters: Sequence[str], level: float = 0.95
) -> Interval:
    """Return the Wilson interval of the mean at the effective size n / design effect.

    The effective size in a binomial interval is the way of Korn and Graubard (1998, Survey
    Methodology 24), who put it into Clopper and Pearson's; Wilson's is less wide.
    """
    design = design_effect(outcomes, clusters)
    return wilson(math.fsum(outcomes) / design, len(outcomes) / design, level)


def below_chance(correct: int, n: int, chance: float, design: float = 1.0) -> float:
    """Return P(X <= correct) for X binomial(n, chance): how odd so few would be by guessing.

    One-sided and exact. `chance` is the mean over the questions; where it differs between them,
    the binomial's tail at the mean is the larger one if correct <= n * chance - 1 (Hoeffding
    1956, Annals of Mathematical Statistics 27), so that the warning errs towards silence.
    With `design` > 1 both numbers shrink to their effective sizes, rounded to whole ones towards
    silence too (Korn and Graubard keep fractions). It is 1 where nothing can lie below chance.
    """
    size = math.floor(n / design)
    hits = math.ceil(correct * size / n) if n > 0 else 0
    if hits >= size or chance <= 0:
        return 1.0
    if chance >= 1:
        return 0.0
    logs = [_log_binomial(k, size, chance) for k in range(hits + 1)]
    top = max(logs)
    return min(1.0, math.exp(top + math.log(math.fsum(math.exp(log - top) for log in logs))))


@dataclass(frozen=True)
class Paired:
    """The same `n` questions before and after something was done to them.

    `gains` turned right and `losses` turned wrong; `difference` of the accuracies, its interval,
    and `p`, the probability of so uneven a split if the change did nothing. `design` is the design
    effect: so many questions count as one. `baseline` is the accuracy before, over these questions;
    None where there are none, or only their changes are known.
    """

    n: int
    gains: int
    losses: int
    difference: float
    interval: Interval
    p: float
    design: float = 1.0
    baseline: float | None = None

    @property
    def candidate(self) -> float | None:
        """The accuracy after it, over the same questions."""
        return None if self.baseline is None else self.baseline + self.difference


def paired(
    before: Sequence[bool], after: Sequence[bool], clusters: Sequence[str], level: float = 0.95
) -> Paired:
    """Compare outcomes question by question; all three sequences have one length. See `change`."""
    changes = [float(b) - float(a) for a, b in zip(before, after, strict=True)]
    found = paired_change(changes, clusters, level)
    return replace(found, baseline=sum(before) / found.n if found.n else None)


def paired_change(changes: Sequence[float], clusters: Sequence[str], level: float = 0.95) -> Paired:
    """Sum up what became of each question: +1 turned right, -1 turned wrong, 0 stayed.

    The interval is the adjusted one of Bonett and Price (2012, Journal of Educational and
    Behavioral Statistics 37): Wald's, after one gain and one loss are added, which keeps it honest
    where few questions turn. `p` is McNemar's exact test. Both use effective sizes where questions
    share a cluster.
    """
    n = len(changes)
    if not n:
        return Paired(0, 0, 0, 0.0, Interval(-1.0, 1.0), 1.0)
    gains, losses = changes.count(1.0), changes.count(-1.0)
    design = design_effect(changes, clusters)
    up, down, size = gains / design, losses / design, n / design
    p_up, p_down = (up + 1) / (size + 2), (down + 1) / (size + 2)
    middle = p_up - p_down
    half = _z(level) * math.sqrt((p_up + p_down - middle**2) / (size + 2))
    interval = Interval(max(-1.0, middle - half), min(1.0, middle + half))
    p = mcnemar(math.ceil(up), math.ceil(down))
    return Paired(n, gains, losses, (gains - losses) / n, interval, p, design)


def mcnemar(gains: int, losses: int) -> float:
    """Return McNemar's exact two-sided p (1947, Psychometrika 12): twice the larger side's tail."""
    less, more = sorted((gains, losses))
    return min(1.0, 2 * sign_test(more, less))


def sign_test(gains: int, losses: int) -> float:
    """Return P(X >= gains) for X binomial(gains + losses, 1/2): exact and one-sided."""
    return upper_tail(gains, gains + losses, 0.5)


def upper_tail(k: int, n: int, p: float) -> float:
    """Return P(X >= k) for X binomial(n, p), summed from k upwards until nothing is added.

    Whole numbers would be exact, but take minutes where 100,000 questions turn; this is right to
    nine digits.
    """
    if k <= 0:
        return 1.0
    if p >= 1:
        return float(k <= n)
    if k <= n * p:
        return 1.0 - upper_tail(n - k + 1, n, 1 - p)
    term, total, at, odds = binomial_mass(k, n, p), 0.0, k, p / (1 - p)
    while at <= n and term > total * 1e-17:
        total += term
        term *= (n - at) / (at + 1) * odds
        at += 1
    return min(1.0, total)


def binomial_mass(k: int, n: int, p: float) -> float:
    """Return P(X = k) for X binomial(n, p)."""
    if k < 0 or k > n:
        return 0.0
    if p <= 0 or p >= 1:
        return float(k == (n if p >= 1 else 0))
    return math.exp(_log_binomial(k, n, p))


def verdict(interval: Interval, target: float) -> Verdict:
    """Return weak if the whole interval lies below the target, strong if none of it does."""
    if interval.high < target:
        return Verdict.WEAK
    return Verdict.STRONG if interval.low >= target else Verdict.UNCERTAIN


def questions_to_settle(
    accuracy: float, n: int, target: float, design: float = 1.0, level: float = 0.95
) -> int | None:
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
        return verdict(wilson(accuracy * size, size, level), target) is not Verdict.UNCERTAIN

    further = bisect_left(range(_MOST_FURTHER + 1), True, key=settled)
    return further if further <= _MOST_FURTHER else None


def _groups(outcomes: Sequence[float], clusters: Sequence[str]) -> list[list[float]]:
    """Gather the outcomes by cluster: the one place that decides what a cluster is.

    Questions of one name belong together; a question with an empty name stands alone.
    """
    alone: list[list[float]] = []
    named: dict[str, list[float]] = {}
    for outcome, cluster in zip(outcomes, clusters, strict=True):
        if cluster:
            named.setdefault(cluster, []).append(outcome)
        else:
            alone.append([outcome])
    return alone + list(named.values())


def _log_binomial(k: int, n: int, p: float) -> float:
    """Return log P(X = k) for 0 < p < 1; exponents of n = 20,000 underflow outside of logs."""
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return ways + k * math.log(p) + (n - k) * math.log1p(-p)


def _z(level: float) -> float:
    return NormalDist().inv_cdf((1 + level) / 2)
