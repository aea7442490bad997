"""Power of the exact McNemar test: what a comparison of n paired questions can show."""

from __future__ import annotations

import math
from bisect import bisect_left
from collections.abc import Iterator
from functools import lru_cache

from domainlift.stats.binomial import binomial_mass, upper_tail

#: The usual level of a test, and the probability with which it is to find what there is.
LEVEL, POWER = 0.05, 0.8
_MOST = 1_000_000
_PRECISION = 1e-4


def mcnemar_power(n: int, discordance: float, difference: float, level: float = LEVEL) -> float:
    """Return the probability that the exact McNemar test shows a true difference.

    Of `n` pairs each turns with the probability `discordance`, and of those that turn the share
    (1 + difference / discordance) / 2 turns right. The sum over the number that turn, as in
    Duffy (1984, Biometrics 40); a result that is significant the wrong way round does not count.
    """
    turning = max(discordance, abs(difference))
    if n <= 0 or turning <= 0:
        return 0.0
    right = (1 + abs(difference) / turning) / 2
    share = min(1.0, turning)
    return min(1.0, math.fsum(w * hit for w, hit in _by_turned(n, share, right, level)))


def minimum_detectable_effect(
    n: int, discordance: float, level: float = LEVEL, power: float = POWER
) -> float:
    """Return the smallest true difference that n paired questions could show.

    That is the one which the exact McNemar test finds with probability `power` where the share
    `discordance` of the questions turns either way (see `mcnemar_power`); a difference above
    the discordance has a discordance of its own size. It is right to 0.0001, and infinite where
    none is large enough: below 6 questions at the usual level.
    """
    if mcnemar_power(n, discordance, 1.0, level) < power:
        return math.inf
    low, high = 0.0, 1.0
    while high - low >= _PRECISION:
        middle = (low + high) / 2
        if mcnemar_power(n, discordance, middle, level) < power:
            low = middle
        else:
            high = middle
    return high


def required_sample_size(difference: float, discordance: float, level: float = LEVEL) -> int | None:
    """Return how many paired questions would show such a difference; None above a million.

    The power grows with n but for small steps back where the test's critical value moves, so this
    is the least n up to such a step.
    """

    def enough(n: int) -> bool:
        return mcnemar_power(n, discordance, difference, level) >= POWER

    high = 8
    while not enough(high):
        if high >= _MOST:
            return None
        high *= 2
    found = bisect_left(range(high), True, key=enough)
    return found if found <= _MOST else None


@lru_cache(maxsize=4)
def _turning(n: int, share: float, level: float) -> tuple[tuple[float, int], ...]:
    """Return, for each likely number of turned pairs, its probability and the critical value.

    The first row is for `_first` pairs. A search needs the same rows many times.
    """
    first = _first(n, share)
    last = min(n, 2 * math.ceil(n * share) - first + 1)
    critical = _critical(first, level)
    tail = upper_tail(critical, first, 0.5)
    rows = []
    for turned in range(first, last + 1):
        rows.append((binomial_mass(turned, n, share), critical))
        tail += 0.5 * binomial_mass(critical - 1, turned, 0.5)
        if 2 * tail > level:
            tail -= binomial_mass(critical, turned + 1, 0.5)
            critical += 1
    return tuple(rows)


def _first(n: int, share: float) -> int:
    """Return a number of turned pairs that hardly any sample is below."""
    return max(0, math.floor(n * share - 6 * math.sqrt(n * share * (1 - share))) - 12)


def _by_turned(n: int, share: float, right: float, level: float) -> Iterator[tuple[float, float]]:
    """Yield, for each likely number of turned pairs, its probability and that of a finding.

    The tail is carried from one number m to the next. With X(m) binomial(m, q),
    P(X(m + 1) >= c) = P(X(m) >= c) + q P(X(m) = c - 1).
    """
    first, rows = _first(n, share), _turning(n, share, level)
    at = rows[0][1]
    hit = upper_tail(at, first, right)
    for turned, (weight, critical) in enumerate(rows, first):
        if critical > at:
            hit -= binomial_mass(at, turned, right)
            at = critical
        yield weight, hit
        hit += right * binomial_mass(at - 1, turned, right)


def _critical(turned: int, level: float) -> int:
    """Return the critical value of the two-sided sign test."""
    least = turned // 2 + 1

    def significant(more: int) -> bool:
        return 2 * upper_tail(least + more, turned, 0.5) <= level

    return least + bisect_left(range(turned + 1 - least), True, key=significant)
