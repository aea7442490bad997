from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.comparing import holm, minimum_detectable_effect, power, required_sample_size
from domainlift.statistics import mcnemar

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


def found(n: int, discordance: float, difference: float, repeats: int = 3000) -> float:
    """How often the test shows the difference, by throwing dice."""
    dice = random.Random(7)
    up, down = (discordance + difference) / 2, (discordance - difference) / 2
    hits = 0
    for _ in range(repeats):
        gains = losses = 0
        for _ in range(n):
            throw = dice.random()
            gains += throw < up
            losses += up <= throw < up + down
        hits += gains > losses and mcnemar(gains, losses) < 0.05
    return hits / repeats


class TestPower:
    @pytest.mark.parametrize(
        ("n", "discordance", "difference"), [(50, 0.2, 0.15), (100, 0.2, 0.08), (200, 0.1, 0.06)]
    )
    def test_is_what_dice_say(self, n: int, discordance: float, difference: float) -> None:
        simulated = found(n, discordance, difference)
        assert power(n, discordance, difference) == pytest.approx(simulated, abs=0.03)

    def test_a_sum_over_everything_by_hand(self) -> None:
        # Six pairs that all turn right are the only finding: 0.9 ** 6.
        assert power(6, 0.9, 0.9) == pytest.approx(0.9**6)
        assert power(5, 1.0, 1.0) == 0.0
        assert power(0, 0.2, 0.1) == power(100, 0.0, 0.0) == 0.0

    @given(st.integers(1, 300), st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 1))
    def test_a_larger_difference_is_seen_more_often(
        self, n: int, discordance: float, one: float, other: float
    ) -> None:
        small, large = sorted((one * discordance, other * discordance))
        assert power(n, discordance, small) <= power(n, discordance, large) + 1e-9


class TestDetectable:
    @pytest.mark.parametrize(("n", "discordance"), [(60, 0.3), (150, 0.15)])
    def test_the_smallest_difference_is_found_four_times_in_five(
        self, n: int, discordance: float
    ) -> None:
        assert found(n, discordance, minimum_detectable_effect(n, discordance)) == pytest.approx(
            0.8, abs=0.03
        )

    @pytest.mark.parametrize("n", [0, 1, 5])
    def test_too_few_questions_show_nothing(self, n: int) -> None:
        assert minimum_detectable_effect(n, 0.2) == math.inf

    @pytest.mark.parametrize(("n", "points"), [(50, 17.6), (100, 12.8), (400, 6.4), (1000, 4.0)])
    def test_the_table_of_the_page(self, n: int, points: float) -> None:
        """docs/compare.md, "The words"."""
        assert round(100 * minimum_detectable_effect(n, 0.2), 1) == points

    def test_it_falls_with_n_and_grows_with_discordance(self) -> None:
        by_n = [minimum_detectable_effect(n, 0.2) for n in (20, 100, 400, 2000, 100_000)]
        assert by_n == sorted(by_n, reverse=True)
        by_share = [minimum_detectable_effect(400, share) for share in (0.0, 0.05, 0.2, 0.5, 1.0)]
        assert by_share == sorted(by_share)

    def test_a_difference_above_the_discordance_brings_its_own(self) -> None:
        assert minimum_detectable_effect(50, 0.0) == minimum_detectable_effect(50, 0.05) > 0.12

    def test_a_stricter_level_and_more_power_ask_for_more(self) -> None:
        assert minimum_detectable_effect(400, 0.2, level=0.01) > minimum_detectable_effect(400, 0.2)
        assert minimum_detectable_effect(400, 0.2, power=0.95) > minimum_detectable_effect(400, 0.2)


class TestQuestionsToShow:
    @pytest.mark.parametrize(("difference", "discordance"), [(0.05, 0.2), (0.08, 0.2), (0.2, 0.2)])
    def test_so_many_have_the_power(self, difference: float, discordance: float) -> None:
        n = required_sample_size(difference, discordance)
        assert n is not None
        assert power(n, discordance, difference) >= 0.8 > power(n - 1, discordance, difference)

    def test_nothing_shows_what_is_not_there(self) -> None:
        assert required_sample_size(0.0, 0.2) is None
        assert required_sample_size(0.001, 0.5) is None
