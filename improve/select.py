"""Which treatment a domain gets: the cheapest that is not shown to be worse than another."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.results.improve_result import TreatmentScore
from benchmarks.runs.store import Record
from domainlift.stats.paired import sign_test

#: How unlikely the losses against the best must be as luck for a treatment to be worse.
WORSE = 0.05


def score_treatment(records: Sequence[Record]) -> TreatmentScore:
    """Sum up the answers to a domain's questions; those without an answer are left out."""
    found = [record for record in records if record.correct is not None]
    n = len(found)
    if not n:
        return TreatmentScore(0, 0.0, 0.0, 0.0)
    return TreatmentScore(
        n,
        sum(bool(record.correct) for record in found) / n,
        sum(record.prompt_tokens + record.output_tokens for record in found) / n,
        sum(record.seconds for record in found) / n,
    )


def cheapest_not_worse(arms: Mapping[str, Sequence[Record]]) -> str:
    """The first treatment, in the given order of cost, that is not worse than any other.

    Worse is one that loses against another by more than luck: the exact one-sided sign test over
    the questions on which the two differ has p < 0.05. The best is not enough to compare with:
    of two that are as good, one may turn so many answers both ways that it shows nothing.
    """
    best = max(arms, key=lambda name: score_treatment(arms[name]).accuracy)
    good = (n for n in arms if not any(_worse(arms[n], other) for other in arms.values()))
    return next(good, best)  # none, where treatments were answered on different questions


def _worse(records: Sequence[Record], other: Sequence[Record]) -> bool:
    there = {record.id: record.correct for record in other if record.correct is not None}
    pairs = [(r.correct, there[r.id]) for r in records if r.correct is not None and r.id in there]
    losses = sum(right and not own for own, right in pairs)
    gains = sum(own and not right for own, right in pairs)
    return sign_test(losses, gains) < WORSE
