"""File of questions: a domain's own or any other, in JSON lines, a JSON list or a table.

`benchmarks.tasks.question_rows` says what a row may hold.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

from benchmarks.scoring.scorer import BY_REFERENCE, metric_scorer
from benchmarks.tasks.base import (
    ALL_MODES,
    MAX_TOKENS,
    STOP,
    Example,
    NoSplit,
    Task,
    TaskRequest,
    data_digest,
    with_ids,
)
from benchmarks.tasks.question_rows import read_questions
from domainlift.errors import Malformed
from domainlift.types import Question
from engines.base import Mode


def load_question_file(request: TaskRequest) -> Task:
    """Load the questions of one split of a file; those of the train split are the examples."""
    path = request.file if request.file is not None else Path(request.name)
    every = _questions(path, request)
    questions = tuple(question for question in every if question.split == request.split)
    if not questions:
        splits = ", ".join(f"`{split}`" for split in sorted({q.split for q in every}))
        raise NoSplit(f"{path}: no question of the split `{request.split}`", f"it has {splits}")
    pool = () if request.split == "train" else tuple(q for q in every if q.split == "train")
    examples = tuple(Example(q, _reply(q)) for q in pool)
    closed = all(question.options for question in questions)
    return Task(
        name=request.name,
        domain=request.domain if request.domain else questions[0].domain,
        questions=questions,
        examples=examples,
        description="",
        mode=Mode.CLOZE if closed else Mode.GENERATE,
        modes=ALL_MODES if closed else frozenset({Mode.GENERATE}),
        shots=0,
        digest=data_digest(questions, examples),
        # Options are answered in a few words, an open question perhaps after some thought.
        stop=() if closed else STOP,
        max_tokens=0 if closed else MAX_TOKENS,
        # Of an agent's turns it is known what is right: its calls, and its last answer.
        scorer=metric_scorer(("tool_calls",)) if _has_turns(questions) else BY_REFERENCE,
    )


def _has_turns(questions: Iterable[Question]) -> bool:
    return any(question.messages for question in questions)


def _questions(path: Path, request: TaskRequest) -> tuple[Question, ...]:
    hint = f"`bench data check {shlex.quote(str(path))}` shows every line that is wrong"
    # Scoped by the file's name, not its place: a moved file keeps its ids.
    scope = request.rest if request.name.startswith("own:") else path.name
    drafts = [
        replace(
            draft,
            id=f"{scope}/{draft.id}" if draft.id else "",
            domain=request.domain or draft.domain or path.stem,
            task=request.name,
        )
        for _, draft in read_questions(path, hint)
    ]
    if not drafts:
        hint = 'row: {"question": "…", "options": ["…", "…"], "answer": 0}'
        raise Malformed(path, "holds no question", hint=hint)
    return with_ids(scope, drafts)


def _reply(question: Question) -> str:
    return question.answer if isinstance(question.answer, str) else ""
