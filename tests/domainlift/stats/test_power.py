from __future__ import annotations

import math
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.stats.paired import mcnemar
from domainlift.stats.power import mcnemar_power, minimum_detectable_effect, required_sample_size


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
        assert mcnemar_power(n, discordance, difference) == pytest.approx(simulated, abs=0.03)

    def test_a_sum_over_everything_by_hand(self) -> None:
        # Six pairs that all turn right are the only finding: 0.9 ** 6.
        assert mcnemar_power(6, 0.9, 0.9) == pytest.approx(0.9**6)
        assert mcnemar_power(5, 1.0, 1.0) == 0.0
        assert mcnemar_power(0, 0.2, 0.1) == mcnemar_power(100, 0.0, 0.0) == 0.0

    @given(st.integers(1, 300), st.floats(0.01, 1), st.floats(0, 1), st.floats(0, 1))
    def test_a_larger_difference_is_seen_more_often(
        self, n: int, discordance: float, one: float, other: float
    ) -> None:
        small, large = sorted((one * discordance, other * discordance))
        assert mcnemar_power(n, discordance, small) <= mcnemar_power(n, discordance, large) + 1e-9


class TestMinimumDetectableEffect:
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


class TestRequiredSampleSize:
    @pytest.mark.parametrize(("difference", "discordance"), [(0.05, 0.2), (0.08, 0.2), (0.2, 0.2)])
    def test_so_many_have_the_power(self, difference: float, discordance: float) -> None:
        n = required_sample_size(difference, discordance)
        assert n is not None
        assert (
            mcnemar_power(n, discordance, difference)
            >= 0.8
            > mcnemar_power(n - 1, discordance, difference)
        )

    def test_nothing_shows_what_is_not_there(self) -> None:
        assert required_sample_size(0.0, 0.2) is None
        assert required_sample_size(0.001, 0.5) is None
