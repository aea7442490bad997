"""Reciprocal rank fusion."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.search.rrf import fuse

ranking = st.lists(st.integers(0, 12), max_size=10, unique=True)
rankings = st.lists(ranking, max_size=4)


def rows(fused: list[tuple[int, float]]) -> list[int]:
    return [row for row, _ in fused]


def test_a_row_gets_one_share_from_each_ranking() -> None:
    fused = dict(fuse([[7, 8], [8, 9]]))
    assert fused == pytest.approx({8: 1 / 62 + 1 / 61, 7: 1 / 61, 9: 1 / 62})


@pytest.mark.parametrize(
    ("given", "order"),
    [
        ([], []),
        ([[], []], []),
        ([[3, 1, 2]], [3, 1, 2]),
        ([[1, 2], [2, 1]], [1, 2]),  # equal sums: the first ranking decides
        ([[2, 1], [1, 2]], [2, 1]),
        ([[1], [2]], [1, 2]),
        ([[1, 2, 3], [3]], [3, 1, 2]),
        ([[5, 5, 6]], [5, 6]),  # a repeated row keeps its first place, and takes nobody's
    ],
)
def test_order(given: list[list[int]], order: list[int]) -> None:
    assert rows(fuse(given)) == order


def test_a_repeated_row_pushes_nobody_down() -> None:
    assert fuse([[5, 5, 6]]) == fuse([[5, 6]])


def test_weights_decide_between_rankings() -> None:
    assert rows(fuse([[1], [2]], weights=[1, 2])) == [2, 1]
    assert rows(fuse([[1], [2]], weights=[1, 0])) == [1]


def test_a_small_k_lets_the_first_ranks_stand_out() -> None:
    # 1 is first once and last once, 2 is in the middle twice.
    given = [[1, 2, 3, 4, 5], [6, 2, 7, 8, 1]]
    assert rows(fuse(given, k=0))[0] == 1
    assert rows(fuse(given, k=60))[0] == 2


@pytest.mark.parametrize(
    ("k", "weights", "says"),
    [
        (-1, None, "k is -1"),
        (60, [1], "1 weights for 2 rankings"),
        (60, [1, -1], "finite"),
        (60, [1, float("nan")], "finite"),
    ],
)
def test_nonsense_is_refused(k: int, weights: list[float] | None, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        fuse([[1], [2]], k=k, weights=weights)


@given(rankings)
def test_it_holds_every_row_once_best_first(given: list[list[int]]) -> None:
    fused = fuse(given)
    assert sorted(rows(fused)) == sorted({row for ranking in given for row in ranking})
    scores = [score for _, score in fused]
    assert scores == sorted(scores, reverse=True)
    assert all(0 < score <= len(given) / 61 + 1e-12 for score in scores)


@given(ranking)
def test_agreeing_rankings_change_nothing(given: list[int]) -> None:
    assert rows(fuse([given, given, given])) == given


@given(rankings, st.randoms())
def test_the_order_of_the_rankings_decides_ties_only(given, random) -> None:
    shuffled = random.sample(given, len(given))
    assert dict(fuse(shuffled)) == pytest.approx(dict(fuse(given)))


@given(rankings, st.integers(0, 12), st.integers(0, 3))
def test_a_row_that_rises_in_one_ranking_does_not_fall(given, row, which) -> None:
    if which >= len(given) or row not in given[which]:
        return
    risen = [row, *(other for other in given[which] if other != row)]
    after = fuse([*given[:which], risen, *given[which + 1 :]])
    assert dict(after)[row] >= dict(fuse(given))[row] - 1e-12
