from __future__ import annotations

import random

import pytest

from benchmarks.results.letters import marginal_homogeneity
from domainlift.stats.paired import mcnemar


def p(first: str, second: str, categories: int = 4) -> float:
    a, b = ([ord(c) - 65 for c in text] for text in (first, second))
    return marginal_homogeneity(a, b, [""] * len(a), categories)


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [
        ("", "", 1.0),
        ("ABCD", "ABCD", 1.0),
        ("ABCD" * 30, "DABC" * 30, 1.0),
        # All 30 that differ say A: McNemar's p of 30 to 0, for each of four letters.
        ("A" * 40, "ABCD" * 10, 4 * mcnemar(30, 0)),
        ("AAAB", "ABCD", 1.0),
    ],
)
def test_the_most_unlike_letter_decides(first: str, second: str, expected: float) -> None:
    assert p(first, second) == pytest.approx(expected)


def test_two_categories_are_mcnemars_test() -> None:
    assert p("A" * 12 + "B" * 8, "B" * 10 + "AA" + "B" * 8, 2) == mcnemar(10, 0)


def test_neither_the_order_nor_what_agrees_matters() -> None:
    draw = random.Random(1)
    pairs = [(draw.choice("AAB"), draw.choice("ABCD")) for _ in range(50)]
    first, second = ("".join(each) for each in zip(*pairs, strict=True))
    assert p(first, second) == p(second, first) == p(first + "ABCD" * 9, second + "ABCD" * 9)
