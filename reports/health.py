"""Chart of an assistant's health: accuracies with intervals and what happened, on one time axis.

All lengths are in the units of the drawing; the page's template draws it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from domainlift.stats import formatting
from domainlift.stats.intervals import Interval
from reports.sanitize import line

WIDTH, HEIGHT = 560, 300
_LEFT, _RIGHT, _TOP, _BOTTOM, _LANE = 44, 14, 18, 218, 248
_DAY = 86_400.0
#: A sign for each kind of event, so that no colour needs to be told apart.
EVENT_SIGNS = {
    "champion": "▲",
    "challenger": "△",
    "archived": "○",
    "quarantined": "✗",
    "reject": "⊘",
    "challenge": "?",
    "drop": "▼",
    "failed": "!",
}


@dataclass(frozen=True)
class HealthPoint:
    """An accuracy at a time (ISO 8601): of a version's held-out questions, or of a probe."""

    when: str
    name: str
    accuracy: float
    interval: Interval
    n: int
    probe: bool = False


@dataclass(frozen=True)
class HealthEvent:
    """Something that happened, with its reason; `kind` is a key of `EVENT_SIGNS`."""

    when: str
    kind: str
    name: str
    why: str


@dataclass(frozen=True)
class PointMark:
    """A point's place, its interval from `low` down to `high`, and what is spoken of it."""

    x: float
    y: float
    low: float
    high: float
    probe: bool
    name: str
    spoken: str


@dataclass(frozen=True)
class EventMark:
    """An event's place on its lane."""

    x: float
    sign: str
    kind: str
    spoken: str


@dataclass(frozen=True)
class HealthChart:
    """Marks and ticks (place, text) of both axes."""

    points: Sequence[PointMark]
    events: Sequence[EventMark]
    dates: Sequence[tuple[float, str]]
    scores: Sequence[tuple[float, str]]
    lane: float = _LANE
    top: float = _TOP


def health_chart(points: Sequence[HealthPoint], events: Sequence[HealthEvent]) -> HealthChart:
    """Lay out what has a readable time; the axis of accuracies begins below the lowest interval."""
    times = [*(each.when for each in points), *(each.when for each in events)]
    stamps = [seconds for when in times if (seconds := _seconds(when))]
    first, last = (min(stamps), max(stamps)) if stamps else (0.0, 0.0)
    # A single moment stands in the middle of a day.
    pad = max((last - first) * 0.03, _DAY / 2 if last == first else 0.0)
    span = (first - pad, last + pad)
    lowest = min((each.interval.low for each in points), default=0.0)
    floor = max(0.0, math.floor(lowest * 10 - 0.5) / 10)

    def x(when: str) -> float:
        return _place(_seconds(when), span)

    def y(share: float) -> float:
        return round(_BOTTOM - (share - floor) / (1 - floor) * (_BOTTOM - _TOP), 1)

    return HealthChart(
        points=[
            PointMark(
                x(each.when),
                y(each.accuracy),
                y(each.interval.low),
                y(each.interval.high),
                each.probe,
                line(each.name, 12),
                _spoken(each),
            )
            for each in points
            if _seconds(each.when)
        ],
        events=[
            EventMark(
                x(each.when),
                EVENT_SIGNS.get(each.kind, "·"),
                each.kind,
                f"{each.when[:10]}: {line(each.name, 40)} {each.kind}: {line(each.why, 160)}",
            )
            for each in events
            if _seconds(each.when)
        ],
        dates=_dates(span) if stamps else [],
        scores=[(y(share), f"{share * 100:.0f}") for share in _steps(floor)],
    )


def _place(seconds: float, span: tuple[float, float]) -> float:
    share = (seconds - span[0]) / (span[1] - span[0])
    return round(_LEFT + share * (WIDTH - _LEFT - _RIGHT), 1)


def _seconds(when: str) -> float:
    """Seconds since 1970; 0 for what is no time."""
    try:
        found = datetime.fromisoformat(when)
    except ValueError:
        return 0.0
    return (found if found.tzinfo is not None else found.replace(tzinfo=UTC)).timestamp()


def _dates(span: tuple[float, float]) -> list[tuple[float, str]]:
    """Three dates at most, none of them twice, away from both ends."""
    inner = [span[0] + (span[1] - span[0]) * share for share in (0.12, 0.5, 0.88)]
    told = {f"{datetime.fromtimestamp(each, UTC):%Y-%m-%d}": each for each in reversed(inner)}
    if len(told) == 1:
        told = {next(iter(told)): inner[1]}
    return [(_place(each, span), text) for text, each in sorted(told.items())]


def _steps(floor: float) -> list[float]:
    step = 0.1 if floor >= 0.5 else 0.25
    first = math.ceil(round(floor / step, 6)) * step
    return [first + step * n for n in range(round((1 - first) / step) + 1)]


def _spoken(each: HealthPoint) -> str:
    figures = f"{formatting.percent(each.accuracy)} % ({formatting.interval(each.interval)})"
    kind = "probe" if each.probe else "held-out"
    return f"{each.when[:10]}: {line(each.name, 40)}, {kind}: {figures}, n {each.n}"
