"""The exam as a person would ask it: without options, in the chat template, written out.

An adapter that was trained and examined by likelihoods can be proven there and useless in a chat.
A reply is right where it holds the answer and none of the wrong options.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from benchmarks.prompts import question_block
from benchmarks.runs.runner import EvalJob, EvalSettings, prepare_job
from benchmarks.tasks.base import STOP, Task, data_digest
from domainlift.text.normalise import contains_run, words
from domainlift.types import Question
from engines.base import Mode
from improve.exam.exam import TEST, Exam, ExamQuestion

if TYPE_CHECKING:
    from benchmarks.runs.store import Record
    from engines.base import EngineInfo

_MAX_TOKENS = 48


def served_job(exam: Exam, info: EngineInfo) -> EvalJob:
    """The held-out questions as they are served: the bare question is the user's turn."""
    chat = info.has_chat_template
    asked = [each for each in exam.asked if each.split == TEST]
    questions = tuple(_open(each, exam.name, chat=chat) for each in asked)
    task = Task(
        name=f"as-served:{exam.name}",
        domain=exam.name,
        questions=questions,
        examples=(),
        description="",
        mode=Mode.GENERATE,
        modes=frozenset({Mode.GENERATE}),
        shots=0,
        digest=data_digest(questions),
        stop=() if chat else STOP,
        max_tokens=_MAX_TOKENS,
        prerendered=True,
    )
    settings = EvalSettings(f"{exam.name}-as-served", mode=Mode.GENERATE, shots=0, chat=chat)
    return prepare_job([task], settings, info)


def served_right(exam: Exam, records: Sequence[Record]) -> dict[str, bool]:
    """Whether each reply gives the answer, by the question's id; errors are left out."""
    by_id = {each.id: each for each in exam.questions}
    return {
        record.id: gives(record.text, by_id[record.id])
        for record in records
        if record.text is not None and record.id in by_id
    }


def gives(reply: str, question: ExamQuestion) -> bool:
    """Whether a reply holds the right option and none of the wrong ones."""
    said = words(reply)
    held = [option for option in question.options if contains_run(said, words(_bare(option)))]
    return held == [question.right]


def _bare(option: str) -> str:
    """An option without its article."""
    first, _, rest = option.partition(" ")
    return rest if first.lower() in ("a", "an", "the") and rest else option


def _open(each: ExamQuestion, domain: str, *, chat: bool) -> Question:
    text = each.question if chat else question_block(each.question)
    task = f"as-served:{domain}"
    return Question(each.id, domain, task, text, (), each.right, each.fact, support=each.support)
