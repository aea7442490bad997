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
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
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
from engines.base import Engine, Mode, Status
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
    """A question as it was asked, and the base model's answer.

    Either `options`, as they continue the prompt, and the index `chosen` of them, or the
    generated `reply`; `whole` is false for a reply that was cut off.
    """

    prompt: str
    domain: str
    right: bool
    options: tuple[str, ...] = ()
    chosen: int | None = None
    reply: str = ""
    whole: bool = True
    source: str = ""

    @property
    def chance(self) -> float:
        """The accuracy of guessing."""
        return 1 / len(self.options) if self.options else 0.0


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
        every = [answer for task, questions in asked for answer in assumed_answers(task, questions)]
        return replay_rows(every, size=size, seed=seed)
    known = _known(_answers_by_task(asked, share, engine, watch), watch)
    return replay_rows(known, size=size, seed=seed)


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
        places = {f"{q.task}#{q.id}": place for place, q in enumerate(questions)}
        answers[task.name] = sorted(found, key=lambda each: places[each.source])
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
            yield SelfAnswer(
                prompt=request.prompt.text,
                domain=question.domain,
                right=bool(record.correct),
                options=request.options,
                chosen=record.chosen if isinstance(record.chosen, int) else None,
                reply=record.text if record.text is not None else "",
                whole=record.status != Status.CUT_OFF,
                source=f"{question.task}#{question.id}",
            )


def assumed_answers(task: Task, questions: Sequence[Question]) -> list[SelfAnswer]:
    """The answers of a model that answers all questions right."""
    builder = PromptBuilder(task, PromptFormat(task.mode, 0, chat=False))
    answers = []
    for question in questions:
        request = builder.request(question, Treatment())
        right = question.answer if isinstance(question.answer, int) else None
        options = request.options if right is not None else ()
        asked = (request.prompt.text, question.domain)
        answers.append(SelfAnswer(*asked, True, options, right, str(question.answer)))
    return answers


def replay_rows(
    answers: Iterable[SelfAnswer],
    *,
    size: int | None = None,
    seed: int = 0,
) -> list[Row]:
    """At most `size` rows of right answers, an even share of each domain.

    A reply that was cut off, or that is empty, is left out.
    """
    rows = [_row(each, text) for each in answers if each.right and (text := _text(each))]
    return sample_evenly(rows, size, seed, name=lambda row: row.id, kind=lambda row: row.domain)


def _text(answer: SelfAnswer) -> str:
    """The text of an answer, "" where it cannot be learned."""
    if answer.options:
        return answer.options[answer.chosen].strip() if answer.chosen is not None else ""
    text = answer.reply.rstrip() if answer.whole else ""
    return text if text.strip() else ""


def _row(answer: SelfAnswer, text: str) -> Row:
    if answer.options:
        # An option may begin with any sign, and continues the prompt as a word of its own.
        completion = (" " if answer.prompt[-1:].strip() else "") + text
    else:
        completion = join(answer.prompt, text)
    return Row(answer.prompt, completion, answer.domain, REPLAY, answer.source)
