"""Test of marginal homogeneity: whether two labels of the same things are spread alike."""

from __future__ import annotations

from collections.abc import Sequence

from domainlift.stats.paired import paired_change


def marginal_homogeneity(
    first: Sequence[int], second: Sequence[int], clusters: Sequence[str], categories: int
) -> float:
    """Return the p-value of equal margins, where both labels are below `categories`.

    The hypothesis of Stuart (1955, Biometrika 42), by McNemar's exact test for each category
    against all others and Bonferroni's correction for their number; two categories are one test.
    Things that have the same label twice say nothing. Exact at any n, unlike the chi-square of
    Stuart and Maxwell, which needs every category to turn up often. Clusters count by the design
    effect of their differences.
    """
    pairs = list(zip(first, second, strict=True))
    tests = categories if categories > 2 else 1
    by_category = (
        paired_change([float(a == k) - float(b == k) for a, b in pairs], clusters).p
        for k in range(tests)
    )
    return min(1.0, tests * min(by_category, default=1.0))
