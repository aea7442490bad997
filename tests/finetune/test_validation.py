from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import pytest

from benchmarks.runs.runner import EvalSettings, prepare_job
from engines.base import Answer, Request
from finetune.validation import Validator
from tests.helpers import fake_engine as fake


@pytest.fixture
def learner() -> Any:
    """An engine whose answers a test may set: the number of right ones per domain."""

    class Learner(fake.FakeEngine):  # type: ignore[misc, name-defined]
        right: dict[str, int]

        def answer(self, requests: Sequence[Request]) -> Iterator[Answer]:
            for request in requests:
                task, number = request.id.rsplit("-", 1)
                knows = int(number) < self.right[task]
                answer = int(number) % 4
                chosen = answer if knows else (answer + 1) % 4
                yield Answer(request.id, logprobs=tuple(float(n == chosen) for n in range(4)))

    return Learner()


def watch(engine: Any) -> Validator:
    tasks = [fake.task(40, "new", ("biology",)), fake.task(40, "old", ("mathematics",))]
    job = prepare_job(tasks, EvalSettings("watch"), engine.info)
    return Validator(engine, ("biology",), {"mathematics"}, job, {})


@pytest.mark.parametrize(
    ("new", "old", "fallen"),
    [(30, 40, ()), (30, 36, ()), (30, 30, ("mathematics",)), (0, 40, ())],
)
def test_only_a_protected_domain_that_clearly_falls_is_told(
    learner: Any, new: int, old: int, fallen: tuple[str, ...]
) -> None:
    learner.right = {"new": 10, "old": 40}
    watched = watch(learner)
    assert watched.base == {"biology": 0.25, "mathematics": 1.0}
    learner.right = {"new": new, "old": old}
    standing = watched.evaluate()
    assert standing.regressed == fallen
    assert standing.scores == {"biology": new / 40, "mathematics": old / 40}
    told = standing.details["biology"]
    assert told["gains"] - told["losses"] == new - 10


def test_the_cached_prefix_of_another_state_is_dropped(learner: Any) -> None:
    learner.right = {"new": 10, "old": 40}
    watched = watch(learner)
    learner.closed = False
    watched.evaluate()
    assert learner.closed


def test_a_loss_in_a_protected_domain_is_taken_from_the_objective(learner: Any) -> None:
    learner.right = {"new": 10, "old": 40}
    validator = watch(learner)
    learner.right = {"new": 30, "old": 36}
    result = validator.evaluate()
    assert result.objective == pytest.approx(30 / 40 - 4 / 40)
    assert result.scores == {"biology": 0.75, "mathematics": 0.9}
    assert (result.regressed, result.details["mathematics"]["losses"]) == ((), 4)
