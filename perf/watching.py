"""False alarms and delay of the test for a drop: simulated years of weekly looks.

    python -m perf.watching --repeats 2000

A probe set of n questions is answered once, when a version is promoted, and again each week for a
year. Some of them are unstable: each time they are answered right with a probability of one half,
in the stored answers too. A drop turns right answers of the stable ones wrong, from one week on
and for good. `naive` is an alarm below 95 % of the stored accuracy.
"""

from __future__ import annotations

import argparse
import random
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from statistics import median

from domainlift.stats.drop import SHARE, drop_level, drop_test
from domainlift.stats.intervals import wilson

WEEKS, ACCURACY = 52, 0.85
SIZES, UNSTABLE, DROPS = (100, 200, 400), (0.0, 0.1, 0.2), (0.05, 0.10, 0.20)
_NEVER = WEEKS + 1


@dataclass(frozen=True)
class Probes:
    """Probe questions: those that are stably right and wrong, and how many are neither."""

    right: int
    wrong: int
    unstable: int

    def answers(self, draw: random.Random, lost: int = 0) -> list[bool]:
        """Answers of one look, `lost` of the stably right ones wrong; in one order always."""
        stable = [False] * lost + [True] * (self.right - lost) + [False] * self.wrong
        return stable + [draw.random() < 0.5 for _ in range(self.unstable)]


def main() -> None:
    """Print two Markdown tables."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    print("| n | unstable | naive: years with a false alarm | tested | 95 % interval |")
    print("|---|---|---|---|---|")
    for n, unstable in product(SIZES, UNSTABLE):
        years = _years(n, unstable, 0.0, chosen)
        naive, seen = (sum(found < _NEVER for found in each) for each in zip(*years, strict=True))
        of = wilson(seen, len(years))
        told = f"{_percent(of.low)} to {_percent(of.high)}"
        rates = [_percent(count / len(years)) for count in (naive, seen)]
        print(f"| {n} | {_percent(unstable)} | {' | '.join(rates)} | {told} |", flush=True)
    print("\n| n | unstable | drop | seen in 1 week | in 4 | in a year | weeks, median |")
    print("|---|---|---|---|---|---|---|")
    for n, unstable, drop in product(SIZES, UNSTABLE, DROPS):
        weeks = [seen for _, seen in _years(n, unstable, drop, chosen)]
        shares = [_percent(sum(w <= most for w in weeks) / len(weeks)) for most in (1, 4, WEEKS)]
        middle = median(weeks)
        told = f"{middle:.0f}" if middle < _NEVER else "never"
        points = f"{100 * drop:.0f} points"
        print(f"| {n} | {_percent(unstable)} | {points} | {' | '.join(shares)} | {told} |")


def _years(
    n: int, unstable: float, drop: float, chosen: argparse.Namespace
) -> list[tuple[int, int]]:
    draw = random.Random(f"{chosen.seed} {n} {unstable} {drop}")
    return [_year(n, unstable, drop, draw) for _ in range(chosen.repeats)]


def _year(n: int, unstable: float, drop: float, draw: random.Random) -> tuple[int, int]:
    """The first week of an alarm, by the naive rule and by the test; one past the year for none."""
    noisy = round(n * unstable)
    right = round(n * ACCURACY - noisy / 2)
    probes = Probes(right, n - noisy - right, noisy)
    before, lost, looks = probes.answers(draw), round(n * drop), []
    naive = seen = _NEVER
    for week in range(1, WEEKS + 1):
        looks.append(after := probes.answers(draw, lost))
        if naive == _NEVER and sum(after) < SHARE * sum(before):
            naive = week
        if drop_test(before, looks, _alone(n), drop_level(7)).seen:
            seen = week
        if seen < _NEVER and (naive < _NEVER or drop):
            break
    return naive, seen


def _alone(n: int) -> Sequence[str]:
    return [""] * n


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


if __name__ == "__main__":
    main()
