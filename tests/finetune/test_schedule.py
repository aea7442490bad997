from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.errors import BenchError
from finetune.training.schedule import batch_indices, permutation, rate_at
from finetune.training.settings import METHODS, TrainingArguments


@pytest.mark.parametrize(
    ("step", "steps", "warm_up", "rate"),
    [
        (0, 100, 0.1, 0.1),
        (4, 100, 0.1, 0.5),
        (9, 100, 0.1, 1.0),
        (10, 100, 0.1, 1.0),
        (55, 100, 0.1, 0.55),
        (100, 100, 0.1, 0.1),
        (0, 100, 0.0, 1.0),
        (0, 1, 0.05, 1.0),
        (0, 1, 1.0, 1.0),
        (0, 2, 1.0, 0.5),
        (1, 2, 1.0, 1.0),
    ],
)
def test_rate(step: int, steps: int, warm_up: float, rate: float) -> None:
    assert rate_at(step, steps, warm_up, 2e-3) == pytest.approx(2e-3 * rate)


@given(st.integers(1, 300), st.floats(0, 1))
def test_rates_rise_then_fall_and_are_never_nought(steps: int, warm_up: float) -> None:
    rates = [rate_at(step, steps, warm_up, 1.0) for step in range(steps)]
    top = rates.index(max(rates))
    assert rates[: top + 1] == sorted(rates[: top + 1])
    assert rates[top:] == sorted(rates[top:], reverse=True)
    assert 0 < min(rates) <= max(rates) <= 1


@given(st.integers(1, 40), st.integers(1, 50), st.none() | st.integers(0, 5), st.integers(0, 3))
def test_every_epoch_is_a_permutation(rows: int, batch: int, seed: int | None, epoch: int) -> None:
    per_epoch = -(-rows // batch)
    steps = [batch_indices(epoch * per_epoch + i, rows, batch, seed) for i in range(per_epoch)]
    flat = [place for step in steps for place in step]
    assert sorted(flat) == list(range(rows))
    assert all(0 < len(step) <= batch for step in steps)
    if seed is None:
        assert flat == list(range(rows))


def test_epochs_and_seeds_differ_and_stay_the_same() -> None:
    orders = [permutation(50, seed, epoch) for seed in (0, 1) for epoch in (0, 1)]
    assert len({tuple(order) for order in orders}) == 4
    # Written down: a resumed training on another machine must agree.
    assert list(permutation(6, 0, 0)) == [0, 4, 3, 1, 5, 2]


@pytest.mark.parametrize(
    ("settings", "rows", "steps"),
    [
        ({"epochs": 2, "batch": 16}, 33, 6),
        ({"epochs": 0.5, "batch": 10}, 40, 2),
        ({"epochs": 0.001, "batch": 10}, 5, 1),
        ({"steps": 7, "epochs": 100}, 5, 7),
    ],
)
def test_steps(settings: dict[str, float], rows: int, steps: int) -> None:
    assert TrainingArguments(**settings).total_steps(rows) == steps  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "wrong",
    [
        {"method": "lorra"},
        {"dtype": "float16"},
        {"rank": 0},
        {"learning_rate": float("nan")},
        {"learning_rate": 0.0},
        {"batch": 0},
        {"dropout": 1.0},
        {"max_tokens": 1},
        {"method": "full"},
        {"method": "prefix"},
    ],
)
def test_settings_that_cannot_work_are_refused_by_name(wrong: dict[str, float]) -> None:
    with pytest.raises(BenchError, match=f"`?{list(wrong)[-1]}`?"):
        TrainingArguments(**wrong)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("method", "hidden", "rate"),
    [
        ("lora", 2048, 4.91e-4),
        ("lora", 896, 9.36e-4),
        ("dora", 576, 1.32e-3),
        ("lora", 64, 2e-3),
    ],
)
def test_rates_by_size_and_method(method: str, hidden: int, rate: float) -> None:
    assert TrainingArguments(method=method).rate(hidden) == pytest.approx(rate, rel=0.01)
    assert TrainingArguments(method=method, learning_rate=0.3).rate(hidden) == 0.3


def test_scale() -> None:
    found = {method: TrainingArguments(method=method, rank=8).scale for method in METHODS}
    assert found["lora"] == 16
    assert found["rslora"] == 8
    assert TrainingArguments(alpha=3).scale == 3
