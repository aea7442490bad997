from __future__ import annotations

import math
import random

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from domainlift.stats.drop import YEARLY, drop_level, drop_test
from domainlift.stats.paired import sign_test

OUTCOMES = st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60)


def drop(right: int, lost: int, gained: int = 0, n: int = 100, level: float = 0.0004) -> bool:
    """Whether a drop is seen: of n answers, so many were right, and so many turned."""
    before = [i < right for i in range(n)]
    after = [lost <= i < right or right <= i < right + gained for i in range(n)]
    return drop_test(before, [after], [""] * n, level).seen


@pytest.mark.parametrize(
    ("right", "lost", "gained", "seen"),
    [
        (80, 0, 0, False),
        (80, 4, 0, False),  # still 95 %
        (80, 5, 0, False),  # below, and 1 in 32 by luck
        (80, 10, 0, False),
        (80, 13, 0, True),
        (80, 16, 8, False),  # a noisy model: as much as 8 fewer
        (80, 40, 8, True),
        (0, 0, 0, False),
        (99, 0, 1, False),
    ],
)
def test_a_drop_is_large_and_no_luck(right: int, lost: int, gained: int, seen: bool) -> None:
    assert drop(right, lost, gained) is seen


def test_a_large_set_shows_a_drop_that_does_not_matter_and_no_alarm_follows() -> None:
    assert not drop(9_000, 300, n=10_000)
    assert drop(9_000, 600, n=10_000)


@given(st.lists(st.floats(0, 60), max_size=200))
def test_the_looks_of_a_year_spend_at_most_its_rate(days: list[float]) -> None:
    total = math.fsum(days)
    spent = math.fsum(map(drop_level, days))
    assert spent <= YEARLY * total / 365 + 1e-12


def test_looking_daily_costs_what_looking_weekly_does() -> None:
    assert 7 * drop_level(1) == pytest.approx(drop_level(7))
    assert 365 * drop_level(1) == pytest.approx(YEARLY)
    assert drop_level(-3) == 0


@given(OUTCOMES, st.floats(0, 1))
def test_worse_answers_never_hide_a_drop(pairs: list[tuple[bool, bool]], level: float) -> None:
    before, after = map(list, zip(*pairs, strict=True))
    clusters = [""] * len(pairs)
    first = drop_test(before, [after], clusters, level)
    assert 0 <= first.p <= 1
    for i, right in enumerate(after):
        if right:
            worse = [*after[:i], False, *after[i + 1 :]]
            assert drop_test(before, [worse], clusters, level).p <= first.p
    assert not drop_test(before, [before], clusters, level).seen


@given(OUTCOMES)
def test_questions_of_one_passage_count_for_less(pairs: list[tuple[bool, bool]]) -> None:
    before, after = map(list, zip(*pairs, strict=True))
    alone = drop_test(before, [after], [""] * len(pairs), 1.0)
    together = drop_test(before, [after], ["one"] * len(pairs), 1.0)
    assert together.p >= alone.p


def test_a_drop_that_stays_is_seen_in_four_looks() -> None:
    before = [True] * 80 + [False] * 20
    after = [False] * 6 + before[6:]
    clusters = [""] * 100
    assert not drop_test(before, [after], clusters, 0.0004).seen
    assert not drop_test(before, [before, before, before, after], clusters, 0.0004).seen
    found = drop_test(before, [after] * 4, clusters, 0.0004)
    assert found.seen
    assert (found.looks, found.baseline, found.accuracy) == (4, 0.8, 0.74)
    assert found.p == pytest.approx(2 * 0.2**6)


@example([(False, False)] * 27 + [(True, False)] * 2)  # floats give a design of 1 + 2e-16
@given(OUTCOMES)
def test_one_look_is_tested_as_mcnemar_does(pairs: list[tuple[bool, bool]]) -> None:
    before, after = map(list, zip(*pairs, strict=True))
    lost, won = pairs.count((True, False)), pairs.count((False, True))
    p = drop_test(before, [after], [""] * len(pairs), 1.0).p
    assert p == pytest.approx(min(1.0, 2 * sign_test(lost, won)) if lost + won else 1.0)


def test_where_nothing_changed_the_rate_is_kept() -> None:
    draw, level, alarms = random.Random(0), 0.05, 0
    for _ in range(2_000):
        sure = [draw.random() for _ in range(40)]
        before, *looks = [[draw.random() < each for each in sure] for _ in range(5)]
        alarms += drop_test(before, looks, [""] * 40, level).seen
    assert alarms <= 0.05 * 2_000


def test_looks_of_other_questions_are_refused() -> None:
    with pytest.raises(ValueError, match="all questions"):
        drop_test([True], [[True, False]], [""], 1.0)
    with pytest.raises(ValueError, match="at least one"):
        drop_test([True], [], [""], 1.0)
