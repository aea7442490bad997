"""Tasks for an agent: questions of a file as `bench run` reads it, or a task per line of a text."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from benchmarks.prompts import INSTRUCTION, lettered_block
from benchmarks.scoring.score import score
from benchmarks.tasks.base import with_ids
from benchmarks.tasks.question_rows import read_questions
from domainlift.errors import Malformed
from domainlift.types import Question
from engines.base import Answer, Mode

_HINT = 'a row: {"question": "…", "answer": "…"}, the answer may be left out; a .txt: a task a line'


def read_agent_tasks(path: Path) -> tuple[Question, ...]:
    """The tasks of a file, each with an id; its answer is "" where there is none to check.

    Malformed, with the line, where one cannot be read or two have one id.
    """
    drafts = list(_lines(path) if path.suffix.lower() == ".txt" else _rows(path))
    if not drafts:
        raise Malformed(path, "holds no task", hint=_HINT)
    return with_ids(path.name, drafts)


def task_text(question: Question) -> str:
    """What the agent is asked."""
    if question.options:
        return lettered_block(question, f"\n{INSTRUCTION}")
    return question.text


def is_solved(question: Question, answer: str) -> bool | None:
    """Whether a final answer is right, as replies are scored; None where there is nothing to check.

    No answer is a wrong one.
    """
    if question.answer == "":
        return None
    return score(question, Answer(question.id, text=answer), Mode.GENERATE).correct is True


def _lines(path: Path) -> Iterator[Question]:
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "is not UTF-8"
        raise Malformed(path, f"cannot be read: {why}", hint=_HINT) from error
    for line in filter(None, map(str.strip, text.splitlines())):
        yield Question("", "", "", line, (), "")


def _rows(path: Path) -> Iterator[Question]:
    for line, draft in read_questions(path, _HINT, answered=False):
        if draft.tools:
            what = "`tools` come from the servers that `--mcp` names"
            raise Malformed(path, what, line=line, hint=_HINT)
        yield replace(draft, id=f"{path.name}/{draft.id}") if draft.id else draft
