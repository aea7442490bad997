from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.stats.intervals import Interval
from reports.health import (
    EVENT_SIGNS,
    HEIGHT,
    WIDTH,
    HealthEvent,
    HealthPoint,
    health_chart,
)

START = datetime(2026, 1, 1, tzinfo=UTC)


def point(day: float, share: float, half: float = 0.05) -> HealthPoint:
    interval = Interval(max(0.0, share - half), min(1.0, share + half))
    return HealthPoint((START + timedelta(days=day)).isoformat(), "v1", share, interval, 100)


@given(st.lists(st.tuples(st.floats(0, 900), st.floats(0, 1)), max_size=20))
def test_everything_lies_within_the_drawing(made: list[tuple[float, float]]) -> None:
    points = [point(day, share) for day, share in made]
    events = [HealthEvent(each.when, "drop", "v1", "because") for each in points]
    chart = health_chart(points, events)
    for mark in chart.points:
        assert 0 < mark.x < WIDTH
        assert 0 < mark.high <= mark.y <= mark.low < chart.lane
    assert all(0 < x < WIDTH for x, _ in chart.dates)
    assert all(0 < y < HEIGHT for y, _ in chart.scores)
    assert len({text for _, text in chart.dates}) == len(chart.dates) <= 3
    assert bool(made) == bool(chart.dates)


def test_later_is_to_the_right_and_better_is_higher() -> None:
    first, second = health_chart([point(0, 0.7), point(30, 0.9)], []).points
    assert first.x < second.x
    assert first.y > second.y
    assert first.spoken == "2026-01-01: v1, held-out: 70.0 % ([0.650, 0.750]), n 100"


def test_the_axis_begins_below_the_lowest_interval() -> None:
    assert health_chart([point(0, 0.9)], []).scores[0][1] == "80"
    assert [text for _, text in health_chart([point(0, 0.2)], []).scores] == [
        *("25", "50", "75", "100")
    ]


@pytest.mark.parametrize("when", ["", "yesterday", "2026-13-01"])
def test_what_has_no_time_is_left_out(when: str) -> None:
    event = HealthEvent(when, "drop", "v1", "")
    assert health_chart([], [event]).events == []
    assert health_chart([], [HealthEvent("2026-01-01", "odd", "<v>", "")]).events[0].sign == "·"
    assert len(set(EVENT_SIGNS.values())) == len(EVENT_SIGNS)
