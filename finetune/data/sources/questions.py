"""Training rows made of a task's questions, in the very form in which they will be asked."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.prompts import PromptBuilder, PromptFormat
from benchmarks.tasks.base import Task
from benchmarks.tasks.registry import load_task
from domainlift.errors import BenchError, Misuse
from domainlift.sampling import sample_evenly
from domainlift.types import Passage, Question, Treatment
from finetune.data.cleaning import open_layout
from finetune.data.rows import Row
from knowledge_bases.domains import Domain


def question_rows(
    task: Task, *, size: int | None = None, seed: int = 0, licence: str = ""
) -> list[Row]:
    """Rows of a task's training questions, at most `size`; other splits are left out.

    Each is a source of its own, so that the wordings of one fact fall into several splits:
    validation then asks in a wording that was not trained, as a test does.
    """
    rows = [
        Row(
            *prompt_completion(question, task),
            question.domain,
            "question",
            f"{question.task}#{question.id}",
            licence,
        )
        for question in task.questions
        if question.split == "train"
    ]
    return sample_evenly(rows, size, seed, name=lambda row: row.id, kind=lambda row: row.domain)


def prompt_completion(
    question: Question, task: Task | None, passages: Sequence[Passage] = ()
) -> tuple[str, str]:
    """The prompt of a question without examples, and the completion that is right.

    The prompt is that of an evaluation of `task`; without a task it has the open layout, without
    options. Where replies are generated, the completion is the reference answer.
    """
    answer = question.answer
    if task is None:
        return open_layout(question.text, question.answer_text)
    builder = PromptBuilder(task, PromptFormat(task.mode, 0, chat=False))
    request = builder.request(question, Treatment(tuple(passages)))
    if isinstance(answer, int) and request.options:
        return request.prompt.text, request.options[answer]
    return request.prompt.text, f" {answer}"


def training_tasks(
    domain: Domain, domains: Mapping[str, Domain], data: Path | None
) -> tuple[list[Task], list[str]]:
    """The tasks of a domain that have a training split, and why others could not be loaded."""
    tasks: list[Task] = []
    missing: list[str] = []
    for name in domain.tasks:
        try:
            tasks.append(load_task(name, data=data, domains=domains, split="train"))
        except Misuse:  # it has no such split
            continue
        except BenchError as error:
            missing.append(error.what)
    return tasks, missing


def reported_questions(
    names: Sequence[str], domains: Mapping[str, Domain], data: Path | None
) -> tuple[list[Question], list[str]]:
    """The questions of these tasks on which a result may rest, and why others are missing.

    Where one task of a kind cannot be loaded, the others of that kind are not tried: they come
    from the same place.
    """
    questions: list[Question] = []
    missing: dict[str, str] = {}
    for name in names:
        kind = name.split(":")[0]
        if kind in missing:
            continue
        try:
            questions += _reported(name, domains, data)
        except BenchError as error:
            missing[kind] = error.what
    return questions, list(missing.values())


def _reported(name: str, domains: Mapping[str, Domain], data: Path | None) -> list[Question]:
    test = load_task(name, data=data, domains=domains).questions
    try:
        validation = load_task(name, data=data, domains=domains, split="validation").questions
    except BenchError:  # it has no such split, or it is not at hand; the test split is
        validation = ()
    return [*test, *validation]
