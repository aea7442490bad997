from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from benchmarks.prompts import PromptBuilder, PromptFormat
from benchmarks.runs.evaluate_task import answer_cache, evaluate_task, fit_to_context
from benchmarks.runs.store import Record
from domainlift.types import Passage, Treatment
from engines.base import Mode
from tests.helpers import fake_engine as fake

FORM = PromptFormat(Mode.LETTER, 0, chat=False)
LONG = tuple(Passage("word " * 300, f"P{n}", id=f"c{n}", dense=0.9) for n in range(1, 4))
HELPED = Treatment(passages=LONG, reason="rag", retrieved=LONG, leak="c9")


@pytest.fixture
def small() -> Any:
    def make(context: int | None) -> Any:
        return fake.FakeEngine(replace(fake.INFO, context=context))

    return make


@pytest.mark.parametrize(("context", "left"), [(None, 3), (1000, 3), (900, 2), (400, 1), (100, 0)])
def test_retrieval_gate_never_push_the_question_out(
    small: Any, context: int | None, left: int
) -> None:
    task = fake.task(1)
    request, treatment = fit_to_context(
        PromptBuilder(task, FORM), task.questions[0], HELPED, small(context)
    )
    assert [p.source for p in treatment.passages] == ["P1", "P2", "P3"][:left]
    assert task.questions[0].text in request.prompt.text
    assert treatment.retrieved == LONG
    if left < 3:
        assert treatment.reason == f"rag: {left} of 3 passages fit the context"


def test_where_passages_are_left_out_the_adapter_is_still_named(small: Any) -> None:
    task = fake.task(1)
    helped = replace(HELPED, adapter="law-v1", reason="rag, adapter law-v1")
    (record,) = evaluate_task(task, FORM, [(task.questions[0], helped)], small(900))
    assert record.adapter == "law-v1"
    assert record.treatment == "rag: 2 of 3 passages fit the context, adapter law-v1"


def test_in_a_chat_the_template_needs_room_too(small: Any) -> None:
    task = fake.task(1)
    prompter = PromptBuilder(task, replace(FORM, chat=True))
    plain = fit_to_context(PromptBuilder(task, FORM), task.questions[0], HELPED, small(930))[1]
    chat = fit_to_context(prompter, task.questions[0], HELPED, small(930))[1]
    assert len(plain.passages) == 3
    assert len(chat.passages) == 2


def test_a_record_tells_what_was_found_and_what_stood_before_the_question(small: Any) -> None:
    task = fake.task(1)
    record = next(iter(evaluate_task(task, FORM, [(task.questions[0], HELPED)], small(900))))
    assert record.passages == ("c1", "c2")
    assert [each["id"] for each in record.retrieved] == ["c1", "c2", "c3"]
    assert record.retrieved[0]["dense"] == 0.9
    assert record.leak == "c9"
    assert "word" not in str(record.retrieved)


def test_what_was_asked_before_is_not_asked_again(small: Any) -> None:
    task = fake.task(4)
    engine = small(None)
    plain = [(question, Treatment()) for question in task.questions]
    first = {r.id: r for r in evaluate_task(task, FORM, plain, engine)}
    first["exam-1"] = replace(first["exam-1"], status="error")
    del first["exam-3"]
    engine.asked.clear()
    shut = Treatment(reason="base: the gate is shut", retrieved=LONG, route="history")
    treated = [(q, HELPED if q.id == "exam-2" else shut) for q in task.questions]
    records = {
        r.id: r for r in evaluate_task(task, FORM, treated, engine, answer_cache(first.values()))
    }
    assert sorted(r.id for r in engine.asked) == ["exam-1", "exam-2", "exam-3"]
    assert records["exam-0"].logprobs == first["exam-0"].logprobs
    assert records["exam-0"].treatment == "base: the gate is shut"
    assert records["exam-0"].route == "history"
    assert len(records["exam-0"].retrieved) == 3


def test_another_treatment_with_the_same_request_is_known_too(small: Any) -> None:
    task = fake.task(1)
    engine = small(None)
    first = list(evaluate_task(task, FORM, [(task.questions[0], HELPED)], engine))
    again = replace(HELPED, reason="ensemble", retrieved=())
    found = list(
        evaluate_task(task, FORM, [(task.questions[0], again)], engine, answer_cache(first))
    )
    assert len(engine.asked) == 1
    assert found[0].treatment == "ensemble"
    assert found[0].request_digest == first[0].request_digest


@pytest.mark.parametrize(
    "other",
    [
        Treatment(adapter="biology", reason="lora"),
        replace(HELPED, passages=HELPED.passages[:1]),
    ],
)
def test_another_request_is_asked(small: Any, other: Treatment) -> None:
    task = fake.task(1)
    engine = small(None)
    base = answer_cache(evaluate_task(task, FORM, [(task.questions[0], Treatment())], engine))
    engine.asked.clear()
    list(evaluate_task(task, FORM, [(task.questions[0], other)], engine, base))
    assert len(engine.asked) == 1


def test_records_of_before_requests_were_told_apart_answer_nothing() -> None:
    assert answer_cache([Record("exam-0", "history", "exam", "ok", True, chosen=0)]) == {}


def test_replies_that_an_earlier_version_read_are_asked_again(small: Any) -> None:
    task = fake.task(2, mode=Mode.GENERATE)
    form = PromptFormat(Mode.GENERATE, 0, chat=False)
    engine = small(None)
    asked = [(question, Treatment()) for question in task.questions]
    first = list(evaluate_task(task, form, asked, engine))
    assert {record.extracted_by for record in first} == {"answer is"}
    engine.asked.clear()
    before = answer_cache([first[0], replace(first[1], extracted_by="")])
    list(evaluate_task(task, form, asked, engine, before))
    assert [request.id for request in engine.asked] == [first[1].id]


def test_every_record_says_how_its_answer_was_found(small: Any) -> None:
    task = fake.task(3)
    engine = fake.FakeEngine(troubles={"exam-0": "unparsed", "exam-1": "error"})
    records = evaluate_task(task, FORM, [(q, Treatment()) for q in task.questions], engine)
    found = {record.id: (record.status, record.extracted_by) for record in records}
    assert found == {
        "exam-0": ("unparsed", "nothing"),
        "exam-1": ("error", "nothing"),
        "exam-2": ("ok", "log-probabilities"),
    }
