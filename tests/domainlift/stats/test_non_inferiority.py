from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from domainlift.stats.binomial import binomial_mass
from domainlift.stats.non_inferiority import non_inferiority


def test_without_a_turned_pair_it_is_the_chance_of_no_loss() -> None:
    """The figures of docs/statistics.md: 148 questions are too few for two points, 149 enough."""
    assert non_inferiority(0, 0, 148, 0.02) == pytest.approx(0.98**148)
    assert non_inferiority(0, 0, 148, 0.02) > 0.05 > non_inferiority(0, 0, 149, 0.02)
    assert round(non_inferiority(0, 4, 83, 0.02), 3) == 1.0
    assert round(non_inferiority(10, 10, 500, 0.02), 3) == 0.022


@pytest.mark.parametrize(("gains", "losses", "n"), [(0, 0, 0), (0, 5, 5), (0, 2, 100), (3, 9, 300)])
def test_a_loss_of_the_margin_or_more_is_no_evidence(gains: int, losses: int, n: int) -> None:
    assert non_inferiority(gains, losses, n, 0.02) == 1.0


@pytest.mark.parametrize("margin", [0.02, 0.1])
@pytest.mark.parametrize("n", [12, 30])
def test_the_error_rate_is_never_exceeded(n: int, margin: float) -> None:
    """Exact: every outcome that is called not worse, summed where the truth is the margin."""
    outcomes = [(gains, losses) for losses in range(n + 1) for gains in range(n + 1 - losses)]
    called = [each for each in outcomes if non_inferiority(*each, n, margin) < 0.05]
    assert called
    for step in range(1, 60):
        gained = (1 - margin) / 2 * (step / 60) ** 2.5
        lost = gained + margin
        chance = sum(
            binomial_mass(losses, n, lost) * binomial_mass(gains, n - losses, gained / (1 - lost))
            for gains, losses in called
        )
        assert chance < 0.0501


@pytest.mark.parametrize("gain", [0.02, 0.1])
def test_a_negative_margin_shows_a_gain_and_errs_as_rarely(gain: float) -> None:
    n = 30
    outcomes = [(gains, losses) for losses in range(n + 1) for gains in range(n + 1 - losses)]
    called = [each for each in outcomes if non_inferiority(*each, n, -gain) < 0.05]
    assert (15, 0) in called
    assert all(gains - losses > n * gain for gains, losses in called)
    for step in range(1, 60):
        gained = gain + (1 - gain) / 2 * (step / 60) ** 2.5
        lost = gained - gain
        chance = sum(
            binomial_mass(losses, n, lost) * binomial_mass(gains, n - losses, gained / (1 - lost))
            for gains, losses in called
        )
        assert chance < 0.0501


@settings(deadline=None, max_examples=12)
@given(st.integers(0, 20), st.integers(0, 20), st.integers(40, 120))
def test_a_gain_more_and_a_loss_less_are_more_evidence(gains: int, losses: int, n: int) -> None:
    found = non_inferiority(gains, losses, n, 0.05)
    assert 0 <= found <= 1
    assert non_inferiority(gains + 1, losses, n, 0.05) <= found + 1e-9
    assert non_inferiority(gains, losses + 1, n, 0.05) >= found - 1e-9
    assert non_inferiority(gains, losses, n, 0.1) <= found + 1e-9
