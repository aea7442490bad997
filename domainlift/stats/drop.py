"""Test for a drop of what is asked again and again: paired, and with an error rate for a year.

A threshold on the accuracy alone ("below 95 % of the baseline") alarms by noise. So a look also has
to show, by an exact test on the questions that turned, that the answers became worse. It spends a
part of a yearly error rate for that: as much as has passed of the year since the look before. The
parts of a year's looks add up to it, however often somebody looks, and however much the looks
depend on one another; they do, because all are compared with the same stored answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from domainlift.stats.binomial import above_chance
from domainlift.stats.intervals import design_effect

#: The share of the baseline's accuracy below which a drop matters.
SHARE = 0.95
#: The probability of a false alarm in a year, and the days for which one look may spend at most.
YEARLY, MOST_DAYS = 0.02, 28.0
#: So many of the newest looks are tested: one alone sees a great drop, four a small one that stays.
WINDOWS = (1, 4)
_YEAR = 365.0


@dataclass(frozen=True)
class Drop:
    """The accuracy in the stored answers and in the newest `looks`, over `n` questions.

    `p` is the probability of so great a loss by luck, adjusted for the windows that were tried;
    `level` is what it was held to.
    """

    n: int
    baseline: float
    accuracy: float
    looks: int
    p: float
    level: float

    @property
    def ratio(self) -> float:
        """The accuracy as a share of the baseline's; 1 where that is 0."""
        return self.accuracy / self.baseline if self.baseline else 1.0

    @property
    def seen(self) -> bool:
        """Whether the accuracy is below the share that matters, and not by luck."""
        return self.ratio < SHARE and self.p <= self.level


def drop_level(days: float, yearly: float = YEARLY) -> float:
    """Return the part of a yearly error rate that a look may spend `days` after the one before."""
    return yearly * min(max(days, 0.0), MOST_DAYS) / _YEAR


def drop_test(
    before: Sequence[bool],
    looks: Sequence[Sequence[bool]],
    clusters: Sequence[str],
    level: float,
) -> Drop:
    """Compare looks, the newest last, with the stored answers to the same questions.

    Where nothing has changed, the stored answer to a question and those of k looks come in any
    order with the same probability. So of a question that was answered right T times in all, the
    stored answer is right with probability T / (k + 1), and the number of right stored answers is
    Poisson binomial, given all T: an exact permutation test, which for k = 1 is McNemar's. Its
    tail is at effective sizes where questions share a cluster. Raises ValueError without a look.
    """
    if not looks or any(len(each) != len(before) for each in looks):
        raise ValueError("a look answers all questions, and there is at least one")
    tried = [_window(before, looks[-k:], clusters, level) for k in WINDOWS if k <= len(looks)]
    return min(tried, key=lambda each: (not each.seen, each.p))


def _window(
    before: Sequence[bool], looks: Sequence[Sequence[bool]], clusters: Sequence[str], level: float
) -> Drop:
    n, k = len(before), len(looks)
    totals = [sum(answers) for answers in zip(*looks, strict=True)]
    turned = [
        (right, (right + total) / (k + 1))
        for right, total in zip(before, totals, strict=True)
        if 0 < right + total < k + 1
    ]
    changes = [total / k - right for right, total in zip(before, totals, strict=True)]
    correct, design = sum(right for right, _ in turned), design_effect(changes, clusters)
    p = above_chance(correct, [chance for _, chance in turned], design) if turned else 1.0
    share = sum(totals) / (k * n) if n else 0.0
    baseline = sum(before) / n if n else 0.0
    return Drop(n, baseline, share, k, min(1.0, p * len(WINDOWS)), level)
