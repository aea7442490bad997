from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from domainlift.errors import BenchError, Interrupted, Misuse
from finetune import train_jointly


def prepare(job: Any, engine: Any, on_replay: Any) -> Any:
    error = {"poor": Misuse("the budget is too small"), "stopped": Interrupted("stopped")}.get(
        job.name
    )
    if error is not None:
        raise error
    return f"prepared {job.name}"


@pytest.fixture(autouse=True)
def stub(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(train_jointly, "prepare_training", prepare)


def prepared(*names: str) -> tuple[Any, Any]:
    jobs: Any = [SimpleNamespace(name=name) for name in names]
    engine: Any = None
    return train_jointly._prepare_all(jobs, engine, print)


def test_one_that_cannot_be_trained_does_not_keep_the_others_from_it() -> None:
    trainings, errors = prepared("rich", "poor", "modest")
    assert trainings == {"rich": "prepared rich", "modest": "prepared modest"}
    assert list(errors) == ["poor"]


def test_where_none_is_left_the_first_says_why() -> None:
    with pytest.raises(BenchError, match="too small"):
        prepared("poor")


def test_an_interrupt_ends_all() -> None:
    with pytest.raises(Interrupted):
        prepared("rich", "stopped")
