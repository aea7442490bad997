"""Rows of what is known already: only of tasks that are known, and never without an end."""

from __future__ import annotations

import math
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import pytest

from benchmarks.tasks.base import ALL_MODES, STOP, Task
from domainlift.types import Question
from engines.base import Answer, EngineInfo, Mode, Request
from finetune.data.mixing import REPLAY
from finetune.data.replay import ReplayProgress, ReplayWatch, collect_replay_rows, self_answers
from tests.helpers.fake_engine import INFO


@dataclass
class Speaker:
    """Says these replies, or takes these options, one after the other."""

    says: Sequence[str | int]
    cut_off: frozenset[int] = frozenset()
    info: EngineInfo = INFO

    def count(self, text: str) -> int:
        return len(text.split())

    def answer(self, requests: Sequence[Request]) -> Iterator[Answer]:
        for n, (request, said) in enumerate(zip(requests, self.says, strict=True)):
            if isinstance(said, str):
                yield Answer(request.id, text=said, cut_off=n in self.cut_off)
            else:
                yield Answer(request.id, logprobs=tuple(-float(k != said) for k in range(2)))


@dataclass
class Student:
    """Answers the first `known` of every hundred questions right, after `delay` seconds each."""

    known: int
    delay: float = 0.0
    info: EngineInfo = INFO
    asked: list[str] = field(default_factory=list)

    def count(self, text: str) -> int:
        return len(text.split())

    def answer(self, requests: Sequence[Request]) -> Iterator[Answer]:
        for request in requests:
            time.sleep(self.delay)
            self.asked.append(request.id)
            right = int(request.id.partition("-")[2]) % 100 < self.known
            if request.mode is Mode.GENERATE:
                yield Answer(request.id, text="#### 7" if right else "#### 8", output_tokens=3)
            else:
                yield Answer(request.id, logprobs=(0.0, -1.0) if right else (-1.0, 0.0))

    def close(self) -> None:
        """Nothing is held."""


def task(name: str, n: int, mode: Mode = Mode.CLOZE) -> Task:
    options = ("x", "y") if mode is Mode.CLOZE else ()
    answer: int | str = 0 if options else "7"
    questions = tuple(
        Question(f"{name}-{k}", name, name, f"{name} {k}?", options, answer) for k in range(n)
    )
    stop = () if options else STOP
    return Task(name, name, questions, (), "", mode, ALL_MODES, 0, "d", stop, 8)


def test_a_task_that_is_guessed_gives_no_rows_and_one_that_is_known_gives_its_right_ones() -> None:
    told: list[ReplayProgress] = []
    watch = ReplayWatch(notify=told.append)
    tasks = {"guessed": [task("guessed", 100)], "known": [task("known", 100)]}

    class Both(Student):
        def answer(self, requests: Sequence[Request]) -> Iterator[Answer]:
            self.known = 90 if requests[0].id.startswith("known") else 50
            return super().answer(requests)

    rows = collect_replay_rows(tasks, 100, 0, Both(0), watch)
    assert {row.domain for row in rows} == {"known"}
    assert len(rows) == 90
    (note,) = [each.note for each in told if each.note]
    assert "no rows of what is known already from `guessed`: 50 of 100 are right" in note


def test_answers_that_are_generated_end_with_their_time_and_say_how_far_they_are() -> None:
    """A model that is nearly always wrong would be asked thousands of questions."""
    told: list[ReplayProgress] = []
    engine = Student(known=0, delay=0.002)
    watch = ReplayWatch(0.1, told.append)
    begun = time.monotonic()
    rows = collect_replay_rows(
        {"sums": [task("sums", 5_000, Mode.GENERATE)]}, 4_000, 0, engine, watch
    )
    assert time.monotonic() - begun < 5
    assert rows == []
    assert len(engine.asked) < 200
    assert (told[0].done, told[0].seconds) == (0, pytest.approx(0.1))
    assert [each.done for each in told[1:4]] == [1, 2, 3]
    assert "`sums`: 0 of" in told[-1].note


def test_generation_ends_when_there_are_enough() -> None:
    engine = Student(known=100)
    rows = collect_replay_rows({"sums": [task("sums", 500, Mode.GENERATE)]}, 20, 0, engine)
    assert len(rows) == 20
    assert 20 <= len(engine.asked) < 40
    assert math.isinf(ReplayWatch().seconds)


def test_a_row_is_what_the_model_said_and_no_part_of_a_reply() -> None:
    replies = [" Because #### 7\n", "So #### 7", "So #### 7 and", " \n"]
    asked = task("sums", 4, Mode.GENERATE)
    engine = Speaker(replies, frozenset({2}))
    found = list(self_answers(asked, asked.questions, engine))
    assert [each.row and each.row.completion for each in found] == [
        " Because #### 7",
        " So #### 7",
        None,
        None,
    ]
    assert [(each.right, each.chance) for each in found[:2]] == [(True, 0.0)] * 2
    first = found[0].row
    assert first is not None
    assert (first.domain, first.kind, first.source) == ("sums", REPLAY, "sums#sums-0")


def test_a_row_of_options_is_the_one_that_was_taken() -> None:
    asked = task("known", 2)
    found = list(self_answers(asked, asked.questions, Speaker([0, 1])))
    assert [(each.right, each.chance) for each in found] == [(True, 0.5), (False, 0.5)]
    assert [each.row and each.row.completion for each in found] == [" x", " y"]


def test_replay_is_shared_evenly_among_domains() -> None:
    tasks = {name: [task(name, count)] for name, count in (("a", 50), ("b", 50), ("c", 3))}
    found = collect_replay_rows(tasks, 23, 1, None)
    assert Counter(row.domain for row in found) == {"a": 10, "b": 10, "c": 3}
    assert found == collect_replay_rows(tasks, 23, 1, None)
    assert found != collect_replay_rows(tasks, 23, 2, None)
