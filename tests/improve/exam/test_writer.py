"""Questions that a model writes: what is kept of them, and why the rest is not."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from engines.base import Answer, Mode, Request
from improve.exam.exam import TEST, VALIDATION
from improve.exam.fact_finder import kind_of_answer
from improve.exam.make import WRITTEN, make_exam
from improve.exam.writer import WrittenFacts, agrees, write_questions
from rag.base import Chunk
from tests.helpers import fake_writer

CHUNKS = [
    Chunk(fake_writer.ROSES, "garden.md#Roses", "Garden > Roses"),
    Chunk(fake_writer.CACTI, "garden.md#Cacti", "Garden > Cacti"),
]


class _Answering(fake_writer.FakeWriter):
    """Writes from the table, and answers every question about roses alike."""

    def __init__(self, reply: str) -> None:
        super().__init__()
        self._reply = reply

    def answer(self, requests: Sequence[Request]) -> Iterator[Answer]:
        for request in requests:
            about = request.prompt.messages[-1].content if request.prompt.messages else ""
            if request.mode is Mode.GENERATE and "Reply with a few words" in about:
                yield Answer(request.id, text=self._reply)
            else:
                yield from super().answer([request])


def _written(folder: Path, reply: str) -> WrittenFacts:
    return write_questions("garden", CHUNKS, _Answering(reply), folder, lambda *_: None)


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
