"""Questions that a model writes: what is kept of them, and why the rest is not."""

from __future__ import annotations

from pathlib import Path

import pytest

from improve.exam.exam import TEST, VALIDATION
from improve.exam.fact_finder import kind_of_answer
from improve.exam.make import WRITTEN, make_exam
from improve.exam.writer import WrittenFacts, write_questions
from rag.base import Chunk
from tests.helpers import fake_writer

CHUNKS = [
    Chunk(fake_writer.ROSES, "garden.md#Roses", "Garden > Roses"),
    Chunk(fake_writer.CACTI, "garden.md#Cacti", "Garden > Cacti"),
]


def _written(folder: Path) -> WrittenFacts:
    return write_questions("garden", CHUNKS, fake_writer.FakeWriter(), folder, lambda *_: None)


def test_a_question_is_kept_with_the_sentence_of_its_answer(tmp_path: Path) -> None:
    made = _written(tmp_path)
    fact = next(iter(made.questions))
    assert list(made.questions.values()) == [
        "When are roses pruned?",
        "How often is a cactus watered?",
    ]
    assert fact.sentence == "Roses are pruned in February, before the buds break."
    assert (fact.answer, fact.kind) == ("February", "month")
    assert made.asked > len(made.questions)


def test_a_written_question_is_examined_and_its_sentence_is_learned(tmp_path: Path) -> None:
    months = ["May", "June", "March", "November"]
    others = [
        Chunk(f"The {thing} is watered in {month}.", f"plan.md#{thing}", "Plan")
        for thing, month in zip(("fig", "ivy", "oak", "elm"), months, strict=True)
    ]
    exam = make_exam("garden", "g1", [*CHUNKS, *others], _written(tmp_path))
    own = [each for each in exam.questions if each.kind == WRITTEN]
    examined = [each for each in own if each.split in (TEST, VALIDATION)]
    assert [each.question for each in examined] == ["When are roses pruned?"]
    assert examined[0].right == "February"
    assert set(examined[0].options) <= {"February", *months}
    learned = [each.question for each in own if each not in examined]
    assert all("____" in question or "which month" in question for question in learned)
    assert exam.by_kind[WRITTEN].kept == 1
    assert exam.made_by.endswith(fake_writer.INFO.digest)


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
