from __future__ import annotations

import math

import pytest

from finetune.training.divergence import Diverged, check_divergence

ROWS = ["one", "two"]


@pytest.mark.parametrize(
    ("losses", "norm"),
    [
        ([3.0], 1.0),
        ([3.0, 2.0, 9.0, 9.0, 9.0], 1.0),
        ([3.0] * 5 + [9.0] * 4, 1.0),
        ([3.0] * 5 + [9.0, 9.0, 2.0, 9.0, 9.0], 1e9),
        ([0.1] * 5 + [1.9] * 9, 1.0),
        ([11.0] * 5 + [21.0] * 9, 1.0),
    ],
    ids=["first", "young", "four", "not in a row", "small", "less than twice"],
)
def test_what_can_be_gone_on_from(losses: list[float], norm: float) -> None:
    check_divergence(losses, norm, ROWS)


@pytest.mark.parametrize(
    ("losses", "norm", "said"),
    [
        ([math.nan], 1.0, "the loss is nan at step 1"),
        ([3.0, math.inf], 1.0, "the loss is inf at step 2"),
        ([3.0, 3.0], math.nan, "the gradient is nan at step 2"),
        ([3.0] * 5 + [9.0] * 5, 1.0, "the loss has risen from 3 to 9 at step 10"),
        ([0.1] * 5 + [2.1] * 5, 1.0, "from 0.1 to 2.1 at step 10"),
        ([3.0] + [1e6] * 5, 1.0, "the loss has risen from 8e"),
    ],
)
def test_what_cannot(losses: list[float], norm: float, said: str) -> None:
    with pytest.raises(Diverged, match=said) as caught:
        check_divergence(losses, norm, ROWS)
    assert "rows: `one`, `two`" in caught.value.what
    assert "learning_rate" in str(caught.value.hint)


def test_of_many_rows_some_are_named() -> None:
    with pytest.raises(Diverged, match=r"`31` and 68 more$"):
        check_divergence([math.nan], 1.0, [str(i) for i in range(100)])
