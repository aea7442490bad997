"""One run's side of a comparison: what was not answered, what was retrieved, what it cost."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from benchmarks.results.paired_runs import Pair, PairedAnswer
from domainlift.stats.binomial import SUSPICIOUS, below_chance
from domainlift.stats.intervals import design_effect
from engines.base import Status


@dataclass(frozen=True)
class RunSide:
    """One run, in one domain or in all.

    `missing` questions have no answer yet; errors and truncated ones were not answered either;
    unparsed ones count as wrong. `retrieved` counts the questions for which passages were found,
    `let_in` those that got some, `hits` those of `supported` where the passage that holds the
    answer was among them. Tokens are means per answered question; seconds are a mean over those
    that were asked in this run, as an answer that is taken from a base run costs no time.
    """

    errors: int = 0
    unparsed: int = 0
    truncated: int = 0
    missing: int = 0
    retrieved: int = 0
    let_in: int = 0
    leaked: int = 0
    hits: int = 0
    supported: int = 0
    adapted: int = 0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    seconds: float = 0.0
    below_chance: bool = False

    @property
    def faulty(self) -> int:
        """Questions without an answer that can be read: errors, truncated, missing, unparsed."""
        return self.errors + self.truncated + self.missing + self.unparsed


def summarize_side(pairs: Sequence[Pair], place: Literal[1, 2]) -> RunSide:
    """Sum up one run over these pairs: 1 the baseline, 2 the candidate."""
    there: list[PairedAnswer] = [a for pair in pairs if (a := pair[place]) is not None]
    if not there:
        return RunSide(missing=len(pairs))
    # By columns: a large run is summed up several times.
    columns = dict(zip(PairedAnswer._fields, zip(*there, strict=True), strict=True))
    timed = list(filter(None, columns["seconds"]))
    status, hit, count = columns["status"], columns["hit"], len(there)
    return RunSide(
        errors=status.count(Status.ERROR),
        unparsed=status.count(Status.UNPARSED),
        truncated=status.count(Status.TRUNCATED),
        missing=len(pairs) - count,
        retrieved=count - columns["found"].count(0),
        let_in=count - columns["passages"].count(0),
        leaked=sum(columns["leak"]),
        hits=hit.count(True),
        supported=count - hit.count(None),
        adapted=sum(columns["adapter"]),
        prompt_tokens=_mean([a.prompt_tokens for a in there if a.correct is not None]),
        output_tokens=_mean([a.output_tokens for a in there if a.correct is not None]),
        seconds=_mean(timed),
        below_chance=_below_chance(pairs, place),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))


def _below_chance(pairs: Sequence[Pair], place: Literal[1, 2]) -> bool:
    rows = [(pair.question, a) for pair in pairs if (a := pair[place]) and a.correct is not None]
    if not rows:
        return False
    outcomes = [float(bool(answer.correct)) for _, answer in rows]
    chance = sum(asked.chance for asked, _ in rows) / len(rows)
    correct = int(sum(outcomes))
    if correct >= chance * len(rows):
        return False
    design = design_effect(outcomes, [asked.cluster for asked, _ in rows])
    return below_chance(correct, len(rows), chance, design) < SUSPICIOUS
