"""The questions around a training: those that keep what is known, those that watch it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.runs.runner import EvalSettings, prepare_job
from benchmarks.runs.sampling import stratified
from benchmarks.tasks.registry import load_task
from domainlift.errors import BenchError
from domainlift.types import Split
from finetune.data.question_rows import assumed_answers, row_losses, self_answers
from finetune.data.replay import replay_rows
from finetune.forgetting import ForgettingMonitor

if TYPE_CHECKING:
    from benchmarks.tasks.base import Task
    from domainlift.types import Question
    from engines.base import Engine
    from finetune.data.rows import Row
    from knowledge_bases.domains import Domain

#: Validation questions per domain at most: they are to take a small part of a training.
MAX_QUESTIONS = 200
#: Known questions that are asked for each one needed: not all are answered right.
_SPARE = 2


@dataclass(frozen=True)
class TrainingDomains:
    """The domains that a training learns, those that it must not lower, and their questions.

    With `own`, only those questions that come with the project or stand in the workspace.
    """

    domains: Mapping[str, Domain]
    learned: tuple[str, ...]
    data: Path | None = None
    own: bool = False

    @property
    def protected(self) -> tuple[str, ...]:
        """The strengths, but for those that are learned themselves."""
        strengths = (name for name, domain in self.domains.items() if domain.protected)
        return tuple(name for name in strengths if name not in self.learned)

    def tasks(self, name: str, split: Split) -> list[Task]:
        """The tasks of a domain that have such a split and are at hand."""
        found = []
        for task in self.domains[name].tasks if name in self.domains else ():
            if self.own and not task.startswith("own:"):
                continue
            try:
                found.append(load_task(task, data=self.data, domains=self.domains, split=split))
            except BenchError:  # it has no such split, or is not at hand; `bench domains` tells
                continue
        return found


def replay_rows_of(
    around: TrainingDomains, size: int, seed: int, engine: Engine | None
) -> list[Row]:
    """About `size` rows of what the model answers right in the protected domains.

    They are made of training questions, in the model's own words. Without an engine it is taken
    to answer all of them right, which tells how many rows there will be and how long.
    """
    found = {name: around.tasks(name, "train") for name in around.protected}
    there = {name: tasks for name, tasks in found.items() if tasks}
    said = []
    for tasks in there.values():
        for task, questions in _sampled(tasks, _SPARE * -(-size // len(there)), seed):
            said += (
                self_answers(task, questions, engine)
                if engine
                else assumed_answers(task, questions)
            )
    return replay_rows(said, size=size, seed=seed)


def forgetting_monitor(
    around: TrainingDomains, engine: Engine, seed: int = 0
) -> ForgettingMonitor | None:
    """Watch validation questions, at most 200 of each domain; None where there are none."""
    names = (*around.learned, *around.protected)
    tasks = [task for name in names for task in _cut(around.tasks(name, "validation"), seed)]
    if not tasks:
        return None
    return ForgettingMonitor(
        prepare_job(tasks, EvalSettings("validation", seed=seed), engine.info),
        engine,
        around.protected,
    )


def mean_token_probability(rows: Sequence[Row], engine: Engine) -> float:
    """How likely a model finds what rows say: the geometric mean per token, averaged over rows."""
    engine.close()
    found = [math.exp(-loss) for loss in row_losses(rows, engine)]
    return sum(found) / len(found)


def _cut(tasks: Sequence[Task], seed: int) -> list[Task]:
    return [
        replace(task, questions=tuple(questions))
        for task, questions in _sampled(tasks, MAX_QUESTIONS, seed)
    ]


def _sampled(tasks: Sequence[Task], most: int, seed: int) -> list[tuple[Task, list[Question]]]:
    """At most so many questions of these tasks together."""
    every = [question for task in tasks for question in task.questions]
    kept = {q.id for q in (stratified(every, most, seed) if len(every) > most else every)}
    parts = [(task, [q for q in task.questions if q.id in kept]) for task in tasks]
    return [(task, questions) for task, questions in parts if questions]
