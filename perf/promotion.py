"""How often the gate errs: simulated candidates, judged by `benchmarks.promotion.judge`.

    python -m perf.promotion --repeats 1000

Each candidate is asked n paired questions in one treated domain, of which 20 % turn. A no-better
one turns as many right as wrong. `naive` is the gate that most tools have: a gain of five points.
"""

from __future__ import annotations

import argparse
import random

from benchmarks.ledger import spent
from benchmarks.promotion import Change, Terms, Word, judge
from domainlift.statistics import paired, wilson

SIZES = (100, 400, 1000)
DISCORDANCE = 0.20


def main() -> None:
    """Print one Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    for look in (1, 2):
        terms = Terms(level=spent(0.05, look))
        print(f"look {look}, level {terms.level:.4f}\n")
        print("| true gain | n | naive | promoted | 95 % interval | inconclusive | rejected |")
        print("|---|---|---|---|---|---|---|")
        for gain in (0.0, 0.08):
            for n in SIZES:
                print(_row(gain, n, terms, chosen.repeats, random.Random(chosen.seed)))
        print()


def _row(gain: float, n: int, terms: Terms, repeats: int, draw: random.Random) -> str:
    words: dict[Word, int] = dict.fromkeys(Word, 0)
    naive = 0
    for _ in range(repeats):
        change = _candidate(gain, n, draw)
        naive += change.paired.difference >= terms.min_gain.amount
        words[judge({"biology": change}, ["biology"], terms).word] += 1
    promoted = words[Word.PROMOTED]
    interval = wilson(promoted, repeats)
    return (
        f"| {100 * gain:+.0f} points | {n} | {naive / repeats:.1%} | {promoted / repeats:.1%} | "
        f"{interval.low:.1%} to {interval.high:.1%} | {words[Word.INCONCLUSIVE] / repeats:.1%} | "
        f"{words[Word.REJECTED] / repeats:.1%} |"
    )


def _candidate(gain: float, n: int, draw: random.Random) -> Change:
    """Turn questions right with (discordance + gain) / 2, wrong with (discordance - gain) / 2."""
    up, down = (DISCORDANCE + gain) / 2, (DISCORDANCE - gain) / 2
    before, after = [], []
    for _ in range(n):
        luck = draw.random()
        before.append(up <= luck < up + down or (luck >= up + down and draw.random() < 0.5))
        after.append(luck < up or (luck >= up + down and before[-1]))
    return Change(paired(before, after, [""] * n), sum(before) / n)


if __name__ == "__main__":
    main()
