from __future__ import annotations

import pytest

from domainlift.stats import formatting
from domainlift.stats.intervals import Interval


@pytest.mark.parametrize(
    ("share", "signed", "plain"),
    [(0.1234, "+12.3", "12.3"), (-0.05, "−5.0", "−5.0"), (0.0004, "0.0", "0.0")],
)
def test_points_have_a_true_minus_and_no_signed_zero(share: float, signed: str, plain: str) -> None:
    assert formatting.points(share) == signed
    assert formatting.points(share, sign=False) == plain


def test_intervals_in_shares_and_points() -> None:
    assert formatting.interval(Interval(0.1, 0.25)) == "[0.100, 0.250]"
    assert formatting.interval(Interval(-0.1, 0.25), sign=True) == "[-0.100, +0.250]"
    assert formatting.points_interval(Interval(-0.1, 0.25)) == "−10.0 to +25.0"


def test_missing_shares_are_dashes() -> None:
    assert (formatting.accuracy(None), formatting.percent(None)) == ("-", "–")
    assert (formatting.accuracy(0.5), formatting.percent(0.5)) == ("0.500", "50.0")


@pytest.mark.parametrize(("p", "text"), [(0.0009, "<0.001"), (0.001, "0.001"), (1.0, "1.000")])
def test_small_p_values_are_bounded(p: float, text: str) -> None:
    assert formatting.p_value(p) == text
