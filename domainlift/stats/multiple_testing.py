"""Correction of p-values for multiple testing."""

from __future__ import annotations

from collections.abc import Sequence


def holm(p_values: Sequence[float]) -> list[float]:
    """Return p-values adjusted for their number, in the given order.

    The step-down method of Holm (1979, Scandinavian Journal of Statistics 6): the k-th smallest of
    m is multiplied by m - k + 1, and none falls below a smaller one's. Whoever rejects where the
    result is below 0.05 rejects a true hypothesis in at most 5 % of such families, however the
    tests depend on each other.
    """
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted = [1.0] * len(p_values)
    highest = 0.0
    for rank, place in enumerate(order):
        highest = max(highest, min(1.0, p_values[place] * (len(order) - rank)))
        adjusted[place] = highest
    return adjusted
