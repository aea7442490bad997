"""Task: questions with their prompt format, and the scorer of the replies."""

from __future__ import annotations

import hashlib
import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.scoring.scorer import BY_REFERENCE, Scorer
from domainlift.errors import BenchError, Misuse
from domainlift.types import Question, Split, question_id
from engines.base import Mode


class NoSplit(Misuse):
    """The task exists, but has no questions of this split."""


class NotAtHand(BenchError):
    """The split is in no mirror, and cannot be downloaded."""


GENERAL = "general"
ALL_MODES = frozenset(Mode)
# End and length of a generated reply where the data set says nothing of them.
STOP = ("Question:", "</s>", "<|im_end|>")
MAX_TOKENS = 256


@dataclass(frozen=True)
class Example:
    """A question with its answer, shown before others; `reply` is the worked answer, if open."""

    question: Question
    reply: str = ""


@dataclass(frozen=True)
class Task:
    """Questions, how to ask them, and how to score the replies.

    `examples` are the pool of the few-shot block, in order, and never contain one of the
    questions. `description` precedes that block in the lettered layout. With `prerendered`,
    a question's text is the whole prompt as another harness renders it, and its options are the
    exact continuations. `scorer` reads and compares generated replies. `digest` is that of the data
    (`data_digest`).
    """

    name: str
    domain: str
    questions: tuple[Question, ...]
    examples: tuple[Example, ...]
    description: str
    mode: Mode
    modes: frozenset[Mode]
    shots: int
    digest: str
    stop: tuple[str, ...] = ()
    max_tokens: int = 0
    prerendered: bool = False
    scorer: Scorer = BY_REFERENCE


def zero_shot_task(
    name: str,
    domain: str,
    questions: tuple[Question, ...],
    mode: Mode,
    modes: frozenset[Mode] | None = None,
    *,
    stop: tuple[str, ...] = (),
    max_tokens: int = 0,
    prerendered: bool = False,
    scorer: Scorer = BY_REFERENCE,
) -> Task:
    """A task that is asked without examples and description, in one mode unless it has `modes`."""
    digest, modes = data_digest(questions), frozenset({mode}) if modes is None else modes
    shape = (stop, max_tokens, prerendered, scorer)
    return Task(name, domain, questions, (), "", mode, modes, 0, digest, *shape)


@dataclass(frozen=True)
class TaskRequest:
    """Arguments of a task's loader.

    `rest` is the task's name without its prefix, `domain` the domain of the task ("" where each
    question names its own), `data` the mirror, `file` the questions' own file where there is one.
    """

    name: str
    rest: str
    domain: str
    split: Split = "test"
    data: Path | None = None
    file: Path | None = None


def with_ids(scope: str, drafts: Iterable[Question]) -> tuple[Question, ...]:
    """Give an id to each question that has none; copies of one question get different ids."""
    seen: Counter[tuple[str, tuple[str, ...]]] = Counter()
    questions = []
    for draft in drafts:
        content = draft.text, draft.options
        made = question_id(scope, *content, occurrence=seen[content])
        seen[content] += 1
        questions.append(draft if draft.id else replace(draft, id=made))
    return tuple(questions)


def data_digest(questions: Iterable[Question], examples: Iterable[Example] = ()) -> str:
    """Hash the ids, texts, options and answers of everything that a task holds."""
    sha = hashlib.sha256()
    for question in questions:
        sha.update(_line("question", question))
    for example in examples:
        sha.update(_line("example", example.question, example.reply))
    return sha.hexdigest()


def _line(kind: str, question: Question, reply: str = "") -> bytes:
    fields = [kind, question.id, question.text, question.options, question.answer, reply]
    fields += [part for part in (question.others, question.tools) if part]
    fields += [f"messages {question.messages}"] if question.messages else []
    return (json.dumps(fields, ensure_ascii=False) + "\n").encode("utf-8", "surrogatepass")
