"""Choice of the traces that are used: by rule, by rating, by a check of the task."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from enum import StrEnum

from domainlift.errors import Misuse
from traces.marks import trace_marks
from traces.trace import Rating, Trace


class WantedRating(StrEnum):
    """Which ratings are taken."""

    GOOD = "good"
    NOT_BAD = "not-bad"
    ANY = "any"


@dataclass(frozen=True)
class TraceCriteria:
    """What a trace must be to be used; all of it must hold.

    `unmarked` leaves out what any rule has marked, `solved` all but what a check found solved.
    """

    rating: WantedRating = WantedRating.NOT_BAD
    unmarked: bool = False
    solved: bool = False


@dataclass(frozen=True)
class TraceUse(TraceCriteria):
    """Which traces are trained on, and the share of them that becomes questions instead."""

    hold_out: float = 0.0

    def __post_init__(self) -> None:
        """Refuse a share that leaves nothing."""
        if not 0 <= self.hold_out <= 0.9:
            raise Misuse(f"`hold_out` is {self.hold_out}, which is not from 0 to 0.9")


def chosen(traces: Iterable[Trace], criteria: TraceCriteria) -> tuple[list[Trace], Counter[str]]:
    """The traces that meet the criteria, and the number of others by the first reason."""
    kept, left_out = [], Counter[str]()
    for trace in traces:
        if reason := _reason(trace, criteria):
            left_out[reason] += 1
        else:
            kept.append(trace)
    return kept, left_out


def _reason(trace: Trace, criteria: TraceCriteria) -> str:
    """Why a trace is left out; "" where it is not."""
    if trace.dropped:
        return "dropped"
    if trace.rating is Rating.BAD and criteria.rating is not WantedRating.ANY:
        return "rated bad"
    if trace.rating is not Rating.GOOD and criteria.rating is WantedRating.GOOD:
        return "not rated good"
    if criteria.solved and not trace.solved:
        return "not solved" if trace.solved is False else "not checked"
    marks = trace_marks(trace) if criteria.unmarked else ()
    return f"marked: {marks[0].name}" if marks else ""
