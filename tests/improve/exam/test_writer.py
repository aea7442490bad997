"""Questions that a model writes: what is kept of them, and why the rest is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from improve.exam.exam import TEST, VALIDATION
from improve.exam.fact_finder import kind_of_answer
from improve.exam.make import WRITTEN, make_exam
from improve.exam.writer import WrittenFacts, agrees, pairs_of, write_questions
from rag.base import Chunk
from tests.helpers import fake_writer

CHUNKS = [
    Chunk(fake_writer.ROSES, "garden.md#Roses", "Garden > Roses"),
    Chunk(fake_writer.CACTI, "garden.md#Cacti", "Garden > Cacti"),
]


def _written(folder: Path, reply: str) -> WrittenFacts:
    writer = fake_writer.FakeWriter(reply)
    return write_questions("garden", CHUNKS, writer, folder, lambda *_: None)


def test_a_question_is_kept_where_the_writer_answers_it_so(tmp_path: Path) -> None:
    made = _written(tmp_path, "In February.")
    (fact,) = made.questions
    assert made.questions[fact] == "When are roses pruned?"
    assert fact.sentence == "Roses are pruned in February, before the buds break."
    assert (fact.answer, fact.kind) == ("February", "month")
    assert made.asked > len(made.questions)


def test_what_the_writer_answers_otherwise_is_rejected_with_that_reason(tmp_path: Path) -> None:
    made = _written(tmp_path, "In spring, when the days are long.")
    assert not made.questions
    assert made.rejected["the writer itself answers otherwise"] == 2


def test_a_written_question_is_examined_and_its_sentence_is_learned(tmp_path: Path) -> None:
    months = ["May", "June", "March", "November"]
    others = [
        Chunk(f"The {thing} is watered in {month}.", f"plan.md#{thing}", "Plan")
        for thing, month in zip(("fig", "ivy", "oak", "elm"), months, strict=True)
    ]
    exam = make_exam("garden", "g1", [*CHUNKS, *others], _written(tmp_path, "February"))
    own = [each for each in exam.questions if each.kind == WRITTEN]
    examined = [each for each in own if each.split in (TEST, VALIDATION)]
    assert [each.question for each in examined] == ["When are roses pruned?"]
    assert examined[0].right == "February"
    assert set(examined[0].options) <= {"February", *months}
    learned = [each.question for each in own if each not in examined]
    assert all("____" in question or "which month" in question for question in learned)
    assert exam.by_kind[WRITTEN].kept == 1
    assert exam.made_by.endswith(fake_writer.INFO.digest)


def test_what_was_written_is_not_asked_again(tmp_path: Path) -> None:
    writing = [chunk.id for chunk in CHUNKS]
    first = fake_writer.FakeWriter("February", failing="third bud")
    write_questions("garden", CHUNKS, first, tmp_path, lambda *_: None)
    assert set(writing) <= set(first.asked)
    (log,) = tmp_path.glob("*.jsonl")
    with log.open("a", encoding="utf-8") as file:
        file.write('{"passage": "torn')  # as a kill leaves it
    again = fake_writer.FakeWriter("February")
    made = write_questions("garden", CHUNKS, again, tmp_path, lambda *_: None)
    assert [each for each in again.asked if each in writing] == [CHUNKS[0].id]
    assert list(made.questions.values()) == ["When are roses pruned?"]
    assert len(log.read_text(encoding="utf-8").splitlines()) == 2


@pytest.mark.parametrize(
    ("reply", "pairs"),
    [
        ("Question: Who?\nAnswer: He.", [("Who?", "He")]),
        (
            "**Q1:** Who\nis it?\n**A1:** He\n2) Q: Why?\nA: so",
            [("Who is it?", "He"), ("Why?", "so")],
        ),
        ("1. Question: Who?\n   Answer: He\nQuestion: And", [("Who?", "He")]),
        ("Nothing of that.", [("", "")]),
        ("", [("", "")]),
    ],
)
def test_questions_are_read_out_of_replies(reply: str, pairs: list[tuple[str, str]]) -> None:
    assert [(pair.question, pair.answer) for pair in pairs_of(reply)] == pairs


@pytest.mark.parametrize(
    ("reply", "answer", "same"),
    [
        ("1987", "1987", True),
        ("The answer is the red lantern.", "red lantern", True),
        ("It is Ivo Lund", "Ivo Lund", True),
        ("Ivo Lund\nand more", "Ivo Lund", True),
        ("in 1987, when the large kiln was bought by the pottery of the town", "1987", False),
        ("1978", "1987", False),
        ("", "1987", False),
        ("nineteen", "nine", False),
    ],
)
def test_replies_agree_by_their_words(reply: str, answer: str, same: bool) -> None:
    assert agrees(reply, answer) is same


@pytest.mark.parametrize(
    ("answer", "kind"),
    [
        ("1987", "year"),
        ("14 February", "date"),
        ("ninety", "number"),
        ("Ivo Lund", "name"),
        ("dust", "phrase"),
        ("42 euros", "money"),
        ("17:25", "time"),
        ("5 percent", "percentage"),
    ],
)
def test_the_kind_of_an_answer_is_told_from_its_letters(answer: str, kind: str) -> None:
    assert kind_of_answer(answer) == kind
