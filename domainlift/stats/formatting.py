"""Text of statistics: shares, differences, intervals and p-values."""

from __future__ import annotations

from domainlift.stats.intervals import Interval


def accuracy(share: float | None) -> str:
    """A share with three decimals; a dash where there is none."""
    return "-" if share is None else f"{share:.3f}"


def difference(shares: float) -> str:
    """A difference of shares with its sign and three decimals."""
    return f"{shares:+.3f}"


def interval(of: Interval, sign: bool = False) -> str:
    """Both ends in brackets, as shares; with their signs for a difference."""
    low, high = map(difference if sign else accuracy, of)
    return f"[{low}, {high}]"


def percent(share: float | None) -> str:
    """A share in per cent with one decimal; a dash where there is none."""
    return "–" if share is None else f"{share * 100:.1f}"


def points(shares: float, sign: bool = True) -> str:
    """A difference in percentage points, with one decimal and a true minus."""
    value = round(shares * 100, 1)
    if not value:
        return "0.0"
    return (f"{value:+.1f}" if sign else f"{value:.1f}").replace("-", "−")


def points_interval(of: Interval) -> str:
    """Both ends in percentage points."""
    return f"{points(of.low)} to {points(of.high)}"


def p_value(p: float) -> str:
    """Three decimals; `<0.001` below."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"
