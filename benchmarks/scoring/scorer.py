"""Scorers of replies: how an answer is extracted, and when it is correct.

A task names its scorer. Most leave it at `BY_REFERENCE`, which takes the scorer that fits the
form of each question's reference answer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from benchmarks.scoring.answer_extraction import as_number, extract_letter, extract_number
from domainlift.types import Question


@dataclass(frozen=True)
class Scorer:
    """Extractor and comparison for the replies to a task's questions.

    `extract` returns the index of an option or the text of an answer, and None (or "") for a reply
    without a readable answer. `matches` compares an extracted answer with the reference. `name`
    identifies both in the fingerprint of a run.
    """

    name: str
    extract: Callable[[Question, str], int | str | None]
    matches: Callable[[Question, int | str], bool]


def _extract_text(question: Question, reply: str) -> str:
    return " ".join(reply.split())


def _same_text(question: Question, answer: int | str) -> bool:
    return answer == " ".join(str(question.answer).split())


#: The option that a reply names by its letter or its text.
LETTER = Scorer(
    name="letter",
    extract=lambda question, reply: extract_letter(reply, question.options),
    matches=lambda question, answer: answer == question.answer,
)
#: The number on which a reply ends, compared by value.
NUMBER = Scorer(
    name="number",
    extract=lambda question, reply: extract_number(reply),
    matches=lambda question, answer: answer == as_number(str(question.answer)),
)
#: The whole reply, compared but for white space.
TEXT = Scorer(name="text", extract=_extract_text, matches=_same_text)


def scorer_of(question: Question) -> Scorer:
    """Return `LETTER` for a question with options, else `NUMBER` or `TEXT` by its reference."""
    if isinstance(question.answer, int):
        return LETTER
    return TEXT if as_number(question.answer) is None else NUMBER


BY_REFERENCE = Scorer(
    name="by reference",
    extract=lambda question, reply: scorer_of(question).extract(question, reply),
    matches=lambda question, answer: scorer_of(question).matches(question, answer),
)
