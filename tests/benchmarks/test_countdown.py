"""Countdown's problems: solvable, the same for everybody, and of one split only."""

from __future__ import annotations

import pytest

from benchmarks.scoring.arithmetic import COUNTDOWN_SCORER, read_expression
from benchmarks.tasks.base import Task
from benchmarks.tasks.registry import load_task
from domainlift.types import Split


def _load(split: Split) -> Task:
    return load_task("countdown:2", data=None, domains={}, split=split)


def test_the_reference_solves_its_problem() -> None:
    task = _load("test")
    assert len(task.questions) > 100
    for question in task.questions:
        found = COUNTDOWN_SCORER.extract(question, str(question.answer))
        assert found is not None
        assert COUNTDOWN_SCORER.matches(question, found)
        made = read_expression(str(question.answer))
        assert made is not None
        assert question.text.startswith(f"Make {made.value} of ")
        assert all(str(number) in question.text for number in made.numbers)


def test_no_split_holds_a_problem_of_another() -> None:
    problems: dict[tuple[object, ...], str] = {}
    splits: tuple[Split, ...] = ("train", "validation", "test")
    for split in splits:
        for question in _load(split).questions:
            made = read_expression(str(question.answer))
            assert made is not None
            assert problems.setdefault((made.numbers, made.value), split) == split


def test_the_same_problems_are_drawn_again() -> None:
    assert _load("test").digest == _load("test").digest


@pytest.mark.parametrize("reply", ["17 + 5", "<answer>5 + 17</answer>\n"])
def test_another_way_to_the_target_is_right(reply: str) -> None:
    question = next(q for q in _load("train").questions if q.answer == "5 + 17")
    found = COUNTDOWN_SCORER.extract(question, reply)
    assert found is not None
    assert COUNTDOWN_SCORER.matches(question, found)
