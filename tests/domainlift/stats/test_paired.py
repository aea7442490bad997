from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.stats.intervals import (
    Interval,
    design_effect,
)
from domainlift.stats.paired import mcnemar, paired, paired_change, sign_test


@pytest.mark.parametrize(
    ("gains", "losses", "p"),
    [(0, 0, 1.0), (5, 0, 0.0625), (0, 5, 0.0625), (3, 3, 1.0), (8, 2, 0.109375), (10, 0, 2 / 1024)],
)
def test_mcnemar_by_hand(gains: int, losses: int, p: float) -> None:
    before = [False] * gains + [True] * losses + [True] * 10
    after = [True] * gains + [False] * losses + [True] * 10
    made = paired(before, after, [""] * len(before))
    assert (made.n, made.gains, made.losses) == (gains + losses + 10, gains, losses)
    assert made.p == pytest.approx(p)
    assert made.difference == pytest.approx((gains - losses) / made.n)


def test_the_paired_interval_by_hand() -> None:
    # 100 questions, 15 gains, 5 losses: (16/102 - 6/102) and its standard error.
    before = [False] * 15 + [True] * 5 + [True] * 80
    after = [True] * 15 + [False] * 5 + [True] * 80
    up, down = 16 / 102, 6 / 102
    half = 1.959964 * ((up + down - (up - down) ** 2) / 102) ** 0.5
    made = paired(before, after, [""] * 100)
    assert made.interval.low == pytest.approx(up - down - half, abs=1e-6)
    assert made.interval.high == pytest.approx(up - down + half, abs=1e-6)
    # As docs/statistics.md has it.
    assert (round(made.interval.low, 3), round(made.interval.high, 3)) == (0.010, 0.186)
    assert round(made.p, 3) == 0.041


def test_questions_on_one_passage_say_less() -> None:
    before, after = [False] * 40, [True] * 20 + [False] * 20
    alone = paired(before, after, [""] * 40)
    shared = paired(before, after, [f"p{n // 10}" for n in range(40)])
    assert shared.difference == alone.difference
    assert shared.interval.high - shared.interval.low > alone.interval.high - alone.interval.low
    assert shared.p > alone.p


def test_no_pairs_say_nothing() -> None:
    made = paired([], [], [])
    assert made.interval == Interval(-1.0, 1.0)
    assert made.baseline is made.candidate is None


def test_a_comparison_knows_both_accuracies_of_its_questions() -> None:
    made = paired([True, True, False, False], [True, False, True, True], [""] * 4)
    assert (made.baseline, made.candidate) == (0.5, 0.75)
    assert paired_change([0.0], [""]).candidate is None


@given(st.lists(st.tuples(st.booleans(), st.booleans()), min_size=1, max_size=60))
def test_a_comparison_turned_around_changes_its_sign(pairs: list[tuple[bool, bool]]) -> None:
    before, after = [a for a, _ in pairs], [b for _, b in pairs]
    names = [""] * len(pairs)
    there, back = paired(before, after, names), paired(after, before, names)
    assert (there.gains, there.losses) == (back.losses, back.gains)
    assert there.p == back.p
    assert there.interval.low == pytest.approx(-back.interval.high)


@given(st.integers(0, 400), st.integers(0, 400))
def test_the_sign_test_is_the_exact_sum(gains: int, losses: int) -> None:
    total = gains + losses
    exact = sum(math.comb(total, k) for k in range(gains, total + 1)) / 2**total
    assert sign_test(gains, losses) == pytest.approx(exact, rel=1e-9, abs=1e-300)


def test_mcnemar_is_that_of_scipy() -> None:
    stats = pytest.importorskip("scipy.stats")
    for gains in range(13):
        for losses in range(13):
            theirs = stats.binomtest(gains, gains + losses).pvalue if gains + losses else 1.0
            assert mcnemar(gains, losses) == pytest.approx(theirs, rel=1e-9)


def test_a_comparison_is_quick_where_whole_numbers_are_not() -> None:
    before = [False] * 50_300 + [True] * 50_000
    made = paired(before, [not right for right in before], [""] * len(before))
    assert made.p == pytest.approx(0.3452, abs=1e-3)
    assert mcnemar(90_000, 10_000) == 0.0


def test_a_comparison_says_how_many_questions_count_as_one() -> None:
    changes, names = [1.0] * 20 + [0.0] * 20, [f"p{n // 10}" for n in range(40)]
    made = paired_change(changes, names)
    assert made.design == design_effect(changes, names) > 5
    told = paired([False] * 40, [bool(each) for each in changes], names)
    assert replace(told, baseline=None) == made
    assert paired_change(changes, [""] * 40).design == 1.0
