from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.stats.multiple_testing import holm

p_lists = st.lists(st.floats(0, 1), max_size=20)


class TestHolm:
    @pytest.mark.parametrize(
        ("given_", "adjusted"),
        [
            ([], []),
            ([0.04], [0.04]),
            ([0.01, 0.04, 0.03], [0.03, 0.06, 0.06]),
            ([0.5, 0.001], [0.5, 0.002]),
            ([0.9, 0.8], [1.0, 1.0]),
        ],
    )
    def test_by_hand(self, given_: list[float], adjusted: list[float]) -> None:
        assert holm(given_) == pytest.approx(adjusted)

    @given(p_lists)
    def test_keeps_the_order_and_stays_between_p_and_bonferroni(self, values: list[float]) -> None:
        adjusted = holm(values)
        for p, q in zip(values, adjusted, strict=True):
            assert p <= q <= min(1.0, p * len(values))
        ranked = sorted(zip(values, adjusted, strict=True))
        assert [q for _, q in ranked] == sorted(adjusted)

    def test_one_false_alarm_in_twenty_families_at_most(self) -> None:
        chance = random.Random(1)
        families = 4000
        alarms = sum(min(holm([chance.random() for _ in range(6)])) < 0.05 for _ in range(families))
        assert 0.03 < alarms / families < 0.06
