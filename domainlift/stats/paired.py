"""Paired comparison of two runs on the same questions: difference, interval, exact tests.

Pure functions over outcomes; `docs/compare.md` explains them to a user.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from domainlift.stats.binomial import upper_tail
from domainlift.stats.intervals import Interval, design_effect, z_value

#: A difference whose whole interval lies within so much of zero counts as no change.
MARGIN = 0.03


@dataclass(frozen=True)
class Paired:
    """Paired comparison of the same `n` questions in two runs.

    `gains` turned right and `losses` turned wrong; `difference` of the accuracies, its interval,
    and `p` of McNemar's test. `design` is the design effect: so many questions count as one.
    `baseline` is the accuracy in the first run, over these questions; None where there are none,
    or only their changes are known.
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
        """The accuracy in the second run, over the same questions."""
        return None if self.baseline is None else self.baseline + self.difference

    def as_json(self) -> dict[str, Any]:
        """The change under the keys of comparisons."""
        return {
            "n": self.n,
            "baseline": self.baseline,
            "candidate": self.candidate,
            "delta": self.difference,
            "interval": list(self.interval),
            "gained": self.gains,
            "lost": self.losses,
            "p": self.p,
        }


def paired(before: Sequence[bool], after: Sequence[bool], clusters: Sequence[str]) -> Paired:
    """Compare outcomes question by question; all sequences have one length."""
    changes = [float(b) - float(a) for a, b in zip(before, after, strict=True)]
    result = paired_change(changes, clusters)
    return replace(result, baseline=sum(before) / result.n if result.n else None)


def paired_change(changes: Sequence[float], clusters: Sequence[str], level: float = 0.95) -> Paired:
    """Summarise the change of each question: +1 turned right, -1 turned wrong, 0 stayed.

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
    half = z_value(level) * math.sqrt((p_up + p_down - middle**2) / (size + 2))
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
