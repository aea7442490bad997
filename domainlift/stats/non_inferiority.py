"""Exact test of non-inferiority: whether a run is at most so much worse on paired questions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import takewhile

from domainlift.stats.binomial import binomial_mass, upper_tail

#: Shares of gained questions at which the tail is computed; closer together near 0, where it turns.
_GRID = 40
_NEGLIGIBLE = 1e-12


def non_inferiority(gains: int, losses: int, n: int, margin: float) -> float:
    """Return the one-sided p of the hypothesis that a candidate loses `margin` or more of accuracy.

    Of `n` pairs `gains` turned right and `losses` wrong, -1 < `margin` < 1; a negative margin is a
    gain, and a small p shows that the candidate gains more than that. The exact unconditional
    test of Hsueh, Liu and Chen (2001, Biometrics 57) over the score statistic of Tango (1998,
    Statistics in Medicine 17): the probability of a statistic as large, where the true difference
    is -margin, at the share of gained questions that makes it largest. So a p below alpha occurs
    with at most that probability however small n is; without any turned pair it is (1 - margin)^n.
    """
    found = _score(gains, losses, n, margin) if n > 0 else 0.0
    if found <= 0:
        return 1.0
    fewest = _fewest_gains(found, n, margin)
    least, most = max(0.0, -margin), (1 - margin) / 2
    shares = (least + (most - least) * (step / _GRID) ** 2 for step in range(_GRID + 1))
    return min(1.0, max(_tail(fewest, n, share, margin) for share in shares))


def _score(gains: int, losses: int, n: int, margin: float) -> float:
    """Tango's statistic: the difference above -margin, in standard errors under the hypothesis.

    The share of gained questions is the most likely one under it, a root of
    2n q² - b q - gains margin (1 - margin) = 0.
    """
    b = (gains + losses) * (1 - margin) + 2 * margin * losses - 2 * margin * n
    share = max(
        0.0, -margin, (b + math.sqrt(b * b + 8 * n * gains * margin * (1 - margin))) / (4 * n)
    )
    return (gains - losses + n * margin) / math.sqrt(n * (2 * share + margin - margin * margin))


def _fewest_gains(found: float, n: int, margin: float) -> list[int]:
    """By the number of losses, the fewest gains with a statistic as large; ends where none has."""
    fewest: list[int] = []
    gains = 0
    for losses in range(n + 1):
        while gains <= n - losses and _score(gains, losses, n, margin) < found - _NEGLIGIBLE:
            gains += 1
        if gains > n - losses:
            break
        fewest.append(gains)
    return fewest


def _tail(fewest: Sequence[int], n: int, share: float, margin: float) -> float:
    """P(statistic as large) where `share` of the questions is gained, and `margin` more lost."""
    lost, centre = share + margin, n * (share + margin)
    masses = ((losses, binomial_mass(losses, n, lost)) for losses in range(len(fewest)))
    likely = takewhile(lambda each: each[1] > _NEGLIGIBLE or each[0] < centre, masses)
    gained = min(1.0, share / (1 - lost)) if lost < 1 else 0.0
    return math.fsum(
        mass * upper_tail(fewest[losses], n - losses, gained)
        for losses, mass in likely
        if mass > _NEGLIGIBLE
    )
