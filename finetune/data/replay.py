"""Replay rows: questions that the model answers right before training, in its own words.

Training on its own answers changes a model least, so they keep other knowledge in place while a
domain is learned. Of a question with options the chosen one is the answer.

Where a model guesses, one answer in four is right by luck and nothing is known: only tasks count in
which it is right more often than chance, by the very answers that would become rows. Answers that
must be generated take long, and end with a share of the training's time.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass

from benchmarks.prompts import PromptBuilder, PromptFormat
from benchmarks.runs.evaluate_task import evaluate_task
from benchmarks.tasks.base import Task
from domainlift.sampling import sample_evenly, stratified
from domainlift.stats.binomial import above_chance
from domainlift.stats.formatting import p_value
from domainlift.stats.multiple_testing import holm
from domainlift.types import Question, Treatment
from engines.base import Engine, Mode, Request, Status
from finetune.data.cleaning import join
from finetune.data.mixing import REPLAY
from finetune.data.rows import Row

#: Questions that are asked for each row needed: not all are answered right.
_SPARE = 2
#: A task is known where so many right answers by guessing are less probable, adjusted by Holm.
KNOWN_ALPHA = 0.05
#: The share of a training's time in which replay answers are generated.
REPLAY_SHARE = 0.2
#: Generated answers that are asked for at a time.
_BLOCK = 8


@dataclass(frozen=True)
class ReplayProgress:
    """How many questions of a task are asked, of how many at most; or a `note` on what came out.

    `seconds` is the time in which generated answers end, infinite where there is no bound.
    """

    task: str
    done: int
    total: int
    seconds: float = math.inf
    note: str = ""


#: Called with how far the questions are that rows of known material are made of.
OnReplay = Callable[[ReplayProgress], None]


@dataclass(frozen=True)
class ReplayWatch:
    """Seconds in which all generated answers end, and who is told how far they are."""

    seconds: float = math.inf
    notify: OnReplay = lambda progress: None


@dataclass(frozen=True)
class SelfAnswer:
    """The base model's answer to a question, which would be right by guessing with `chance`.

    `row` is what is learned of it; None where it is no text, or was cut off.
    """

    question: str
    right: bool
    chance: float
    row: Row | None


def collect_replay_rows(
    tasks_by_domain: Mapping[str, Sequence[Task]],
    size: int,
    seed: int,
    engine: Engine | None,
    watch: ReplayWatch = ReplayWatch(),
) -> list[Row]:
    """About `size` replay rows of training questions, an even share of each domain.

    Tasks in which the model is not right more often than chance give none, and a note says so.
    Without an engine all questions count as answered right, which says how many rows there will
    be and how long.
    """
    share = -(-size // max(1, len(tasks_by_domain)))
    asked = [
        pair
        for tasks in tasks_by_domain.values()
        for pair in sample_tasks(tasks, _SPARE * share, seed)
    ]
    if engine is None:
        rows = [row for task, questions in asked for row in _right_rows(task, questions)]
    else:
        known = _known(_answers_by_task(asked, share, engine, watch), watch)
        rows = [answer.row for answer in known if answer.right and answer.row is not None]
    return sample_evenly(rows, size, seed, name=lambda row: row.id, kind=lambda row: row.domain)


def _answers_by_task(
    asked: Sequence[tuple[Task, Sequence[Question]]], share: int, engine: Engine, watch: ReplayWatch
) -> dict[str, list[SelfAnswer]]:
    """Ask every task; generated answers end when there are enough, or with their time."""
    generated = sum(task.mode is Mode.GENERATE for task, _ in asked)
    left = watch.seconds
    answers: dict[str, list[SelfAnswer]] = {}
    for task, questions in asked:
        begun, allowed, enough = time.monotonic(), math.inf, len(questions)
        if task.mode is Mode.GENERATE:
            allowed, enough = left / generated, share
            generated -= 1
        found: list[SelfAnswer] = []
        watch.notify(ReplayProgress(task.name, 0, len(questions), allowed))
        for block in _blocks(task, questions):
            for answer in self_answers(task, block, engine):
                found.append(answer)
                watch.notify(ReplayProgress(task.name, len(found), len(questions), allowed))
            right = sum(each.right for each in found)
            if right >= enough or time.monotonic() - begun >= allowed:
                break
        if task.mode is Mode.GENERATE:
            left = max(0.0, left - (time.monotonic() - begun))
        places = {question.id: place for place, question in enumerate(questions)}
        answers[task.name] = sorted(found, key=lambda each: places[each.question])
    return answers


def _blocks(task: Task, questions: Sequence[Question]) -> Iterator[Sequence[Question]]:
    """The questions in one block; in small ones where the answers to a block take long."""
    size = _BLOCK if task.mode is Mode.GENERATE else max(1, len(questions))
    return (questions[start : start + size] for start in range(0, len(questions), size))


def _known(answers: Mapping[str, Sequence[SelfAnswer]], watch: ReplayWatch) -> Iterator[SelfAnswer]:
    """The answers to tasks in which more are right than by chance; the others are noted."""
    rights = {name: sum(each.right for each in own) for name, own in answers.items()}
    p_values = holm(
        [above_chance(rights[name], [each.chance for each in own]) for name, own in answers.items()]
    )
    for (name, own), p in zip(answers.items(), p_values, strict=True):
        if p < KNOWN_ALPHA:
            yield from own
            continue
        asked = f"{rights[name]} of {len(own)} are right, p {p_value(p)} by guessing"
        note = f"no rows of what is known already from `{name}`: {asked}"
        watch.notify(ReplayProgress(name, len(own), len(own), note=note))


def sample_tasks(tasks: Sequence[Task], most: int, seed: int) -> list[tuple[Task, list[Question]]]:
    """At most `most` questions of these tasks together, by task."""
    every = [question for task in tasks for question in task.questions]
    kept = {q.id for q in (stratified(every, most, seed) if len(every) > most else every)}
    parts = [(task, [q for q in task.questions if q.id in kept]) for task in tasks]
    return [(task, questions) for task, questions in parts if questions]


def self_answers(task: Task, questions: Sequence[Question], engine: Engine) -> Iterator[SelfAnswer]:
    """Yield the model's own answers to questions, without examples and passages, as they come."""
    form = PromptFormat(task.mode, 0, chat=False)
    builder = PromptBuilder(task, form)
    by_id = {question.id: question for question in questions}
    pairs = [(question, Treatment()) for question in questions]
    with closing(evaluate_task(task, form, pairs, engine)) as records:
        for record in records:
            question = by_id[record.id]
            request = builder.request(question, Treatment())
            said = record.chosen if request.options else record.text
            row = _row(request, question, said) if record.status != Status.CUT_OFF else None
            chance = 1 / len(request.options) if request.options else 0.0
            yield SelfAnswer(question.id, bool(record.correct), chance, row)


def _right_rows(task: Task, questions: Sequence[Question]) -> Iterator[Row]:
    """The rows of a model that answers all questions right."""
    builder = PromptBuilder(task, PromptFormat(task.mode, 0, chat=False))
    for question in questions:
        request = builder.request(question, Treatment())
        answer = question.answer if request.options else str(question.answer)
        row = _row(request, question, answer)
        if row is not None:
            yield row


def _row(request: Request, question: Question, answer: object) -> Row | None:
    """The row of an answer: the index of an option, as it continues the prompt, or a reply."""
    prompt = request.prompt.text
    if request.options:
        # An option may begin with any sign, and continues the prompt as a word of its own.
        text = request.options[answer].strip() if isinstance(answer, int) else ""
        completion = (" " if prompt[-1:].strip() else "") + text
    else:
        text = answer.rstrip() if isinstance(answer, str) else ""
        completion = join(prompt, text)
    source = f"{question.task}#{question.id}"
    return Row(prompt, completion, question.domain, REPLAY, source) if text.strip() else None
