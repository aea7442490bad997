"""Error rate of the gate: simulated candidates, judged by `benchmarks.held_out.gate.judge`.

    python -m perf.promotion --repeats 1000

Each candidate is asked n paired questions in one treated domain, of which 20 % turn. A no-better
one turns as many right as wrong. `naive` is the gate that most tools have: a gain of five points.
"""

from __future__ import annotations

import argparse
import random
from itertools import product

from benchmarks.held_out.gate import DomainEvidence, GateCriteria, GateVerdict, apply_gate
from benchmarks.held_out.ledger import alpha_spent
from domainlift.stats.intervals import wilson
from domainlift.stats.paired import paired

SIZES = (100, 400, 1000)
DISCORDANCE = 0.20


def main() -> None:
    """Print one Markdown table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--repeats", type=int, default=1000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    print("| look | true gain | n | naive | promoted | 95 % interval | inconclusive | rejected |")
    print("|---|---|---|---|---|---|---|---|")
    for look, gain, n in product((1, 2), (0.0, 0.08), SIZES):
        terms = GateCriteria(level=alpha_spent(0.05, look))
        cells = _cells(gain, n, terms, chosen.repeats, random.Random(chosen.seed))
        told = f"{100 * gain:+.0f} points" if gain else "0"
        print(f"| {look} | {told} | {n:,} | {' | '.join(cells)} |", flush=True)


def _cells(
    gain: float, n: int, terms: GateCriteria, repeats: int, draw: random.Random
) -> tuple[str, ...]:
    words: dict[GateVerdict, int] = dict.fromkeys(GateVerdict, 0)
    naive = 0
    for _ in range(repeats):
        change = _candidate(gain, n, draw)
        naive += change.paired.difference >= terms.min_gain.amount
        words[apply_gate({"biology": change}, ["biology"], terms).word] += 1
    promoted = words[GateVerdict.PROMOTED]
    interval = wilson(promoted, repeats)
    return (
        _percent(naive / repeats),
        _percent(promoted / repeats),
        f"{100 * interval.low:.1f} to {_percent(interval.high)}",
        _percent(words[GateVerdict.INCONCLUSIVE] / repeats),
        _percent(words[GateVerdict.REJECTED] / repeats),
    )


def _percent(share: float) -> str:
    return f"{100 * share:.1f} %"


def _candidate(gain: float, n: int, draw: random.Random) -> DomainEvidence:
    """Turn questions right with (discordance + gain) / 2, wrong with (discordance - gain) / 2."""
    up, down = (DISCORDANCE + gain) / 2, (DISCORDANCE - gain) / 2
    before, after = [], []
    for _ in range(n):
        luck = draw.random()
        before.append(up <= luck < up + down or (luck >= up + down and draw.random() < 0.5))
        after.append(luck < up or (luck >= up + down and before[-1]))
    return DomainEvidence(paired(before, after, [""] * n))


if __name__ == "__main__":
    main()
