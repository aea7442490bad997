"""Questions as things to learn: in the very form in which they will be asked."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.prompts import PromptBuilder, PromptFormat
from benchmarks.runs.evaluate_task import evaluate_task
from benchmarks.tasks.base import Task
from benchmarks.tasks.registry import load_task
from domainlift.errors import BenchError, Misuse
from domainlift.types import Question, Treatment
from engines.base import Engine, Mode, Prompt, Request
from finetune.data.replay import SelfAnswer
from finetune.data.rows import Row

if TYPE_CHECKING:
    from knowledge_bases.domains import Domain

#: A question's prompt, and the completion that is right.
Render = Callable[[Question], tuple[str, str]]


def renderer(task: Task, mode: Mode | None = None) -> Render:
    """Render questions as this task asks them, without examples before them.

    Where replies are generated, what is learned is the reference answer.
    """
    form = PromptFormat(mode if mode is not None else task.mode, 0, chat=False)
    prompter = PromptBuilder(task, form)

    def render(question: Question) -> tuple[str, str]:
        request = prompter.request(question, Treatment())
        if isinstance(question.answer, int) and request.options:
            return request.prompt.text, request.options[question.answer]
        return request.prompt.text, f" {question.answer}"

    return render


def training_tasks(
    domain: Domain, domains: Mapping[str, Domain], data: Path | None
) -> tuple[list[Task], list[str]]:
    """The tasks of a domain that have questions to learn from, and why others have not."""
    found: list[Task] = []
    missing: list[str] = []
    for name in domain.tasks:
        try:
            found.append(load_task(name, data=data, domains=domains, split="train"))
        except Misuse:  # it has no such split
            continue
        except BenchError as error:
            missing.append(error.what)
    return found, missing


def self_answers(task: Task, questions: Sequence[Question], engine: Engine) -> list[SelfAnswer]:
    """What a model says to questions by itself, to be kept in practice while it learns others."""
    form = PromptFormat(task.mode, 0, chat=False)
    prompter = PromptBuilder(task, form)
    alone = Treatment()
    records = {r.id: r for r in evaluate_task(task, form, [(q, alone) for q in questions], engine)}
    made = []
    for question in questions:
        request, record = prompter.request(question, alone), records[question.id]
        made.append(
            SelfAnswer(
                prompt=request.prompt.text,
                domain=question.domain,
                right=bool(record.correct),
                options=request.options,
                chosen=record.chosen if isinstance(record.chosen, int) else None,
                reply=record.text if record.text is not None else "",
                whole=record.output_tokens < request.max_tokens,
                source=f"{question.task}#{question.id}",
            )
        )
    return made


def assumed_answers(task: Task, questions: Sequence[Question]) -> list[SelfAnswer]:
    """The same where nobody was asked: as if the model answered all of them right."""
    prompter = PromptBuilder(task, PromptFormat(task.mode, 0, chat=False))
    made = []
    for question in questions:
        request = prompter.request(question, Treatment())
        right = question.answer if isinstance(question.answer, int) else None
        told = SelfAnswer(
            prompt=request.prompt.text,
            domain=question.domain,
            right=True,
            options=request.options if right is not None else (),
            chosen=right,
            reply=str(question.answer),
        )
        made.append(told)
    return made


def row_losses(rows: Sequence[Row], engine: Engine) -> list[float]:
    """The model's loss on each row, in nats per token; infinite where it gives none."""
    requests = [
        Request(str(place), Mode.CLOZE, Prompt(row.prompt, row.messages), (row.completion,))
        for place, row in enumerate(rows)
    ]
    found = {int(answer.id): answer.logprobs for answer in engine.answer(requests)}
    return [
        -found[place][0] / max(1, engine.count(row.completion)) if found.get(place) else math.inf
        for place, row in enumerate(rows)
    ]


def reported_questions(
    names: Sequence[str], domains: Mapping[str, Domain], data: Path | None
) -> tuple[list[Question], list[str]]:
    """The questions of these tasks on which a claim may rest, and which were not at hand.

    Where one task of a kind cannot be had, the others of that kind are not tried: they come from
    the same place.
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
    found = list(load_task(name, data=data, domains=domains).questions)
    try:
        more = load_task(name, data=data, domains=domains, split="validation").questions
    except BenchError:  # it has no such split, or not at hand; what is reported is there
        more = ()
    return [*found, *more]
