"""Binomial distribution: its mass, its tails, and the tests against chance."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence

#: Below this probability a domain is reported as suspiciously below chance: over 15 domains of a
#: model that only guesses, one false warning in about 70 runs (0.05 would warn in every second).
SUSPICIOUS = 0.001
_TINY = 1e-18


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


def above_chance(correct: int, chances: Sequence[float], design: float = 1.0) -> float:
    """Return P(X >= correct) where each question is guessed with its own chance: exact, one-sided.

    X is Poisson binomial: the sum of one binomial per distinct chance (Wang 1993, Statistica Sinica
    3), convolved. With `design` > 1 it is the binomial at the mean chance, with both numbers shrunk
    to effective sizes, rounded towards no finding; its tail is the larger one from one above the
    mean on (Hoeffding 1956).
    """
    n = len(chances)
    if design > 1 and n:
        size = math.floor(n / design)
        return upper_tail(math.floor(correct * size / n), size, math.fsum(chances) / n)
    groups = Counter(chances)
    if len(groups) <= 1:
        return upper_tail(correct, n, chances[0]) if n else float(correct <= 0)
    (last, count), *others = sorted(groups.items(), key=lambda each: -each[1])
    sums = {0: 1.0}
    for chance, size in others:
        masses = [(k, m) for k in range(size + 1) if (m := binomial_mass(k, size, chance)) > _TINY]
        found: dict[int, float] = {}
        for before, weight in sums.items():
            for k, mass in masses:
                found[before + k] = found.get(before + k, 0.0) + weight * mass
        sums = {k: mass for k, mass in found.items() if mass > _TINY}
    return min(1.0, math.fsum(m * upper_tail(correct - k, count, last) for k, m in sums.items()))


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


def _log_binomial(k: int, n: int, p: float) -> float:
    """Return log P(X = k) for 0 < p < 1; exponents of n = 20,000 underflow outside of logs."""
    ways = math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
    return ways + k * math.log(p) + (n - k) * math.log1p(-p)
