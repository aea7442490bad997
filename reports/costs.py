"""One run's side of a comparison: what was not answered, what was retrieved, what it cost."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from domainlift import statistics
from engines.base import Status
from reports.joined import Answered, Pair


@dataclass(frozen=True)
class Side:
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
    def unanswered(self) -> int:
        """Questions that say nothing: errors, truncated and missing ones."""
        return self.errors + self.truncated + self.missing


def side(pairs: Sequence[Pair], place: Literal[1, 2]) -> Side:
    """Sum up one run over these pairs: 1 the baseline, 2 the candidate."""
    there: list[Answered] = [a for pair in pairs if (a := pair[place]) is not None]
    status = Counter(answer.status for answer in there)
    count = max(1, len(there))
    timed = [answer.seconds for answer in there if answer.seconds > 0]
    return Side(
        errors=status[Status.ERROR],
        unparsed=status[Status.UNPARSED],
        truncated=status[Status.TRUNCATED],
        missing=len(pairs) - len(there),
        retrieved=sum(a.found > 0 for a in there),
        let_in=sum(a.passages > 0 for a in there),
        leaked=sum(a.leak for a in there),
        hits=sum(a.hit is True for a in there),
        supported=sum(a.hit is not None for a in there),
        adapted=sum(a.adapter for a in there),
        prompt_tokens=sum(a.prompt_tokens for a in there) / count,
        output_tokens=sum(a.output_tokens for a in there) / count,
        seconds=sum(timed) / max(1, len(timed)),
        below_chance=_below_chance(pairs, place),
    )


def _below_chance(pairs: Sequence[Pair], place: Literal[1, 2]) -> bool:
    rows = [(pair.asked, a) for pair in pairs if (a := pair[place]) and a.correct is not None]
    if not rows:
        return False
    outcomes = [float(bool(answer.correct)) for _, answer in rows]
    chance = sum(asked.chance for asked, _ in rows) / len(rows)
    correct = int(sum(outcomes))
    if correct >= chance * len(rows):
        return False
    design = statistics.design_effect(outcomes, [asked.cluster for asked, _ in rows])
    return statistics.below_chance(correct, len(rows), chance, design) < statistics.SUSPICIOUS
