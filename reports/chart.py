"""Chart of the comparison page: its marks and scales; `templates/chart.html.j2` draws them.

Two panels with one row per domain: the accuracies as dumbbells, and the differences with their
intervals. All lengths are in the units of the drawing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.results.comparison import DomainChange
from domainlift.stats import formatting
from domainlift.stats.paired import MARGIN
from reports import format as wording
from reports.sanitize import line

WIDTH = 520
ROW = 34
TOP = 34
LEFT = 152
#: Room for the figure at the end of a row.
RIGHT = 114
_REACHES = (0.05, 0.1, 0.2, 0.3, 0.5, 0.75, 1.0)
_LABEL = 16


@dataclass(frozen=True)
class Mark:
    """One row: places from the left, and what is written beside them."""

    name: str
    word: str
    sign: str
    y: float
    before: float
    after: float
    low: float
    high: float
    middle: float
    told: str
    scores: str
    spoken: str


@dataclass(frozen=True)
class Chart:
    """Both panels; `scores` and `changes` are the ticks (place, text) of their axes."""

    marks: Sequence[Mark]
    height: float
    scores: Sequence[tuple[float, str]]
    changes: Sequence[tuple[float, str]]
    zero: float
    band: tuple[float, float]


def chart(rows: Sequence[tuple[str, DomainChange]]) -> Chart:
    """Lay out the rows that have answers."""
    there = [(name, row) for name, row in rows if row.n]
    ends = [abs(end) for _, row in there for end in (row.interval.low, row.interval.high)]
    far = max(ends, default=0.0)
    reach = next((r for r in _REACHES if far <= r), 1.0)
    steps = (-reach, -reach / 2, 0.0, reach / 2, reach)
    return Chart(
        marks=[_mark(place, name, row, reach) for place, (name, row) in enumerate(there)],
        height=TOP + ROW * len(there) + 8,
        scores=[(_score(share), f"{share * 100:.0f}") for share in (0, 0.25, 0.5, 0.75, 1)],
        changes=[(_change(step, reach), _tick(step)) for step in steps],
        zero=_change(0, reach),
        band=(_change(-min(MARGIN, reach), reach), _change(min(MARGIN, reach), reach)),
    )


def _mark(place: int, name: str, row: DomainChange, reach: float) -> Mark:
    before, after = row.baseline or 0.0, row.candidate or 0.0
    full = line(name, 80)
    figures = f"{formatting.percent(before)} → {formatting.percent(after)}"
    told = formatting.points(row.difference)
    between = formatting.points_interval(row.interval)
    return Mark(
        name=full if len(full) <= _LABEL else full[: _LABEL - 1] + "…",
        word=row.word.value,
        sign=wording.SIGNS[row.word],
        y=TOP + ROW * (place + 0.5),
        before=_score(before),
        after=_score(after),
        low=_change(row.interval.low, reach),
        high=_change(row.interval.high, reach),
        middle=_change(row.difference, reach),
        told=told,
        scores=figures,
        spoken=f"{full}: {figures} %, {told} points ({between}), {row.word}",
    )


def _score(share: float) -> float:
    return round(LEFT + share * (WIDTH - LEFT - RIGHT), 1)


def _change(share: float, reach: float) -> float:
    """The place of a difference on an axis from -reach to +reach."""
    share = min(max(share, -reach), reach)
    return round(LEFT + (share / reach + 1) / 2 * (WIDTH - LEFT - RIGHT), 1)


def _tick(share: float) -> str:
    return f"{share * 100:+g}".replace("-", "−") if share else "0"
