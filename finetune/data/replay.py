"""Replay rows: questions that the model answers right before training, in its own words.

Training on its own answers changes a model least, so they keep other knowledge in place while a
domain is learned. Of a question with options the chosen one is the answer.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.prompts import PromptBuilder, PromptFormat
from benchmarks.runs.evaluate_task import evaluate_task
from benchmarks.tasks.base import Task
from domainlift.sampling import sample_evenly, stratified
from domainlift.types import Question, Treatment
from engines.base import Engine, Message
from finetune.data.cleaning import join
from finetune.data.mixing import REPLAY
from finetune.data.rows import Row

#: Questions that are asked for each row needed: not all are answered right.
_SPARE = 2


@dataclass(frozen=True)
class SelfAnswer:
    """A question as it was asked, and the base model's answer.

    Either `options`, as they continue the prompt, and the index `chosen` of them, or the
    generated `reply`; `whole` is false for a reply that was cut off. `messages` win over
    `prompt`, as they do everywhere.
    """

    prompt: str
    domain: str
    right: bool
    options: tuple[str, ...] = ()
    chosen: int | None = None
    reply: str = ""
    whole: bool = True
    messages: tuple[Message, ...] = ()
    source: str = ""
    licence: str = ""


def collect_replay_rows(
    tasks_by_domain: Mapping[str, Sequence[Task]], size: int, seed: int, engine: Engine | None
) -> list[Row]:
    """About `size` replay rows of training questions, an even share of each domain.

    Without an engine all questions count as answered right, which says how many rows there will
    be and how long.
    """
    answers: list[SelfAnswer] = []
    for tasks in tasks_by_domain.values():
        for task, questions in sample_tasks(tasks, _SPARE * -(-size // len(tasks_by_domain)), seed):
            answers += (
                self_answers(task, questions, engine)
                if engine is not None
                else assumed_answers(task, questions)
            )
    return replay_rows(answers, size=size, seed=seed)


def sample_tasks(tasks: Sequence[Task], most: int, seed: int) -> list[tuple[Task, list[Question]]]:
    """At most `most` questions of these tasks together, by task."""
    every = [question for task in tasks for question in task.questions]
    kept = {q.id for q in (stratified(every, most, seed) if len(every) > most else every)}
    parts = [(task, [q for q in task.questions if q.id in kept]) for task in tasks]
    return [(task, questions) for task, questions in parts if questions]


def self_answers(task: Task, questions: Sequence[Question], engine: Engine) -> list[SelfAnswer]:
    """The model's own answers to questions, without examples and passages."""
    form = PromptFormat(task.mode, 0, chat=False)
    builder = PromptBuilder(task, form)
    pairs = [(question, Treatment()) for question in questions]
    records = {record.id: record for record in evaluate_task(task, form, pairs, engine)}
    answers = []
    for question in questions:
        request, record = builder.request(question, Treatment()), records[question.id]
        answers.append(
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
    return answers


def assumed_answers(task: Task, questions: Sequence[Question]) -> list[SelfAnswer]:
    """The answers of a model that answers all questions right."""
    builder = PromptBuilder(task, PromptFormat(task.mode, 0, chat=False))
    answers = []
    for question in questions:
        request = builder.request(question, Treatment())
        right = question.answer if isinstance(question.answer, int) else None
        answers.append(
            SelfAnswer(
                prompt=request.prompt.text,
                domain=question.domain,
                right=True,
                options=request.options if right is not None else (),
                chosen=right,
                reply=str(question.answer),
            )
        )
    return answers


def replay_rows(
    answers: Iterable[SelfAnswer],
    *,
    size: int | None = None,
    seed: int = 0,
    without: Iterable[str] = (),
) -> list[Row]:
    """At most `size` rows of right answers, an even share of each domain.

    `without` names the domains that are to be learned: they need no replay of themselves. A
    reply that was cut off, or that is empty, is left out.
    """
    learned = frozenset(without)
    rows = [
        _row(each, text)
        for each in answers
        if each.right and each.domain not in learned and (text := _text(each))
    ]
    return sample_evenly(rows, size, seed, name=lambda row: row.id, kind=lambda row: row.domain)


def _text(answer: SelfAnswer) -> str:
    """The text of an answer, "" where it cannot be learned."""
    if answer.options:
        return answer.options[answer.chosen].strip() if answer.chosen is not None else ""
    text = answer.reply.rstrip() if answer.whole else ""
    return text if text.strip() else ""


def _row(answer: SelfAnswer, text: str) -> Row:
    if answer.messages:
        prompt, completion = "", text.strip()
    elif answer.options:
        # An option may begin with any sign, and continues the prompt as a word of its own.
        seam = " " if answer.prompt[-1:].strip() else ""
        prompt, completion = answer.prompt, seam + text
    else:
        prompt, completion = answer.prompt, join(answer.prompt, text)
    return Row(
        prompt=prompt,
        completion=completion,
        domain=answer.domain,
        kind=REPLAY,
        source=answer.source,
        licence=answer.licence,
        messages=answer.messages,
    )
