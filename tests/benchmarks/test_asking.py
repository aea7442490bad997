from __future__ import annotations

from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest

from benchmarks.asking import ask, fit
from benchmarks.prompts import Format, Prompter
from benchmarks.store import Record
from domainlift.questions import Passage, Treatment
from engines.base import Mode

FORM = Format(Mode.LETTER, 0, chat=False)
LONG = tuple(Passage("word " * 300, f"P{n}", id=f"c{n}", dense=0.9) for n in range(1, 4))
HELPED = Treatment(passages=LONG, reason="rag", found=LONG, leak="c9")


@pytest.fixture
def small(fake: ModuleType) -> Any:
    def make(context: int | None) -> Any:
        return fake.FakeEngine(replace(fake.INFO, context=context))

    return make


@pytest.mark.parametrize(("context", "left"), [(None, 3), (1000, 3), (900, 2), (400, 1), (100, 0)])
def test_passages_never_push_the_question_out(
    fake: ModuleType, small: Any, context: int | None, left: int
) -> None:
    task = fake.task(1)
    request, treatment = fit(Prompter(task, FORM), task.questions[0], HELPED, small(context))
    assert [p.source for p in treatment.passages] == ["P1", "P2", "P3"][:left]
    assert task.questions[0].text in request.prompt.text
    assert treatment.found == LONG
    if left < 3:
        assert treatment.reason == f"rag: {left} of 3 passages fit the context"


def test_in_a_chat_the_template_needs_room_too(fake: ModuleType, small: Any) -> None:
    task = fake.task(1)
    prompter = Prompter(task, replace(FORM, chat=True))
    plain = fit(Prompter(task, FORM), task.questions[0], HELPED, small(930))[1]
    chat = fit(prompter, task.questions[0], HELPED, small(930))[1]
    assert len(plain.passages) == 3
    assert len(chat.passages) == 2


def test_a_record_tells_what_was_found_and_what_stood_before_the_question(
    fake: ModuleType, small: Any
) -> None:
    task = fake.task(1)
    record = next(iter(ask(task, FORM, [(task.questions[0], HELPED)], small(900))))
    assert record.passages == ("c1", "c2")
    assert [each["id"] for each in record.found] == ["c1", "c2", "c3"]
    assert record.found[0]["dense"] == 0.9
    assert record.leak == "c9"
    assert "word" not in str(record.found)


def test_what_is_left_alone_is_taken_from_the_base_run(fake: ModuleType, small: Any) -> None:
    task = fake.task(4)
    engine = small(None)
    base = {
        "exam-0": Record("exam-0", "history", "exam", "ok", True, chosen=0, logprobs=(-1.0,)),
        "exam-1": Record("exam-1", "history", "exam", "error", None),
        "exam-2": Record("exam-2", "history", "exam", "ok", False, chosen=3),
    }
    shut = Treatment(reason="base: the gate is shut", found=LONG)
    treated = [(q, HELPED if q.id == "exam-2" else shut) for q in task.questions]
    records = {r.id: r for r in ask(task, FORM, treated, engine, base)}
    assert sorted(r.id for r in engine.asked) == ["exam-1", "exam-2", "exam-3"]
    assert records["exam-0"].logprobs == (-1.0,)
    assert records["exam-0"].treatment == "base: the gate is shut"
    assert len(records["exam-0"].found) == 3


def test_an_adapter_is_never_answered_by_the_base_run(fake: ModuleType, small: Any) -> None:
    task = fake.task(1)
    engine = small(None)
    base = {"exam-0": Record("exam-0", "history", "exam", "ok", True, chosen=0)}
    treated = [(task.questions[0], Treatment(adapter="biology", reason="lora"))]
    list(ask(task, FORM, treated, engine, base))
    assert len(engine.asked) == 1
