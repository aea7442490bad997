"""Training job: recipe and settings of an adapter, the domains it learns and those it protects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from benchmarks.tasks.base import Task
from benchmarks.tasks.registry import is_own, load_task
from domainlift.errors import BenchError
from domainlift.types import Split
from domainlift.workspace import Workspace
from engines.base import Engine, Mode
from finetune.data.mixing import Mix, mix, natural_size
from finetune.data.recipe import Recipe, read_setting
from finetune.data.replay import ReplayWatch, collect_replay_rows
from finetune.data.row_io import load_rows
from finetune.data.row_losses import row_losses
from finetune.data.rows import Row
from finetune.stages.stage_settings import REINFORCEMENT
from finetune.training.settings import NO_BUDGET, TrainingArguments, TrainingBudget
from knowledge_bases.domains import Domain, companions


@dataclass(frozen=True)
class TrainingJob:
    """Training of one adapter.

    `data` names the prepared data set of a domain where it is not called like the domain. With
    `own`, replay and validation use only questions that come with the project or stand in the
    workspace. `strengths` are the domains that the base model was measured to know. Tasks that can
    be asked in `mode` are; else, and without one, in their own.
    """

    name: str
    recipe: Recipe
    settings: TrainingArguments
    workspace: Path
    domains: Mapping[str, Domain] = field(default_factory=dict)
    data: Mapping[str, str] = field(default_factory=dict)
    mirror: Path | None = None
    own: bool = False
    budget: TrainingBudget = NO_BUDGET
    strengths: tuple[str, ...] = ()
    mode: Mode | None = None

    @property
    def learned(self) -> tuple[str, ...]:
        """The domains of the recipe that are to get better."""
        return tuple(name for name in self.recipe.proportions if not self.is_strength(name))

    @property
    def protected(self) -> tuple[str, ...]:
        """The domains that must not get worse: strengths of the same suites as the recipe's."""
        around = companions(self.domains, self.recipe.proportions)
        return tuple(name for name in around if self.is_strength(name))

    @property
    def sft_budget(self) -> TrainingBudget:
        """The budget of the first stage: an equal share where others follow."""
        seconds = self.budget.seconds
        shared = None if seconds is None else seconds / len(self.recipe.stages)
        return replace(self.budget, seconds=shared)

    def is_strength(self, name: str) -> bool:
        """Whether a domain is declared as one to protect, or measured to be one."""
        return name in self.domains and (self.domains[name].protected or name in self.strengths)

    def dataset(self, name: str) -> Path:
        """The folder of a domain's prepared rows."""
        return Workspace(self.workspace).data_set(self.data.get(name, name))

    def tasks(self, name: str, split: Split) -> list[Task]:
        """The tasks of a domain that have such a split and are at hand."""
        tasks = []
        for task in self.domains[name].tasks if name in self.domains else ():
            if self.own and not is_own(task):
                continue
            try:
                found = load_task(task, data=self.mirror, domains=self.domains, split=split)
            except BenchError:  # it has no such split, or is not at hand, as `bench domains` shows
                continue
            tasks.append(in_mode(found, self.mode))
        return tasks


def in_mode(task: Task, mode: Mode | None) -> Task:
    """The task as it is asked in a mode, where it can be."""
    return replace(task, mode=mode) if mode is not None and mode in task.modes else task


def training_arguments(recipe: Recipe, changes: Sequence[str] = ()) -> TrainingArguments:
    """The settings of a recipe, with changes in the form KEY=VALUE."""
    changed: dict[str, Any] = dict(read_setting(text, TrainingArguments) for text in changes)
    # A reply that was never taught to end runs on to its limit, and gets no reward.
    ends = {"end": True} if {*recipe.stages} & {*REINFORCEMENT} else {}
    return TrainingArguments(**{**ends, **recipe.training, **changed})


def build_mix(
    job: TrainingJob,
    engine: Engine | None,
    chosen: Mapping[str, Sequence[Row]] | None = None,
    watch: ReplayWatch = ReplayWatch(),
) -> Mix:
    """Mix the prepared rows, or the chosen ones of them by domain, with replay rows.

    Without an engine only the sizes are right.
    """
    recipe = job.recipe
    rows = prepared_rows(job) if chosen is None else chosen
    replay: list[Row] = []
    wanted = sum(map(len, rows.values())) * recipe.replay
    if wanted or any(name in job.domains and not rows.get(name) for name in recipe.proportions):
        tasks = {name: job.tasks(name, "train") for name in job.protected}
        tasks = {name: own for name, own in tasks.items() if own}
        replay = collect_replay_rows(tasks, max(round(wanted), 1), recipe.seed, engine, watch)
    every = {name: [*own] for name, own in rows.items()}
    for row in replay:
        every.setdefault(row.domain, []).append(row)
    new = natural_size(every, replace(recipe, replay=0.0))
    size = round(new * (1 + recipe.replay)) if replay else new
    if engine is None:
        return mix(every, replace(recipe, order="shuffled"), size)
    return mix(every, recipe, size, lambda rows: row_losses(rows, engine))


def prepared_rows(job: TrainingJob, split: str = "train") -> dict[str, list[Row]]:
    """The prepared rows of each domain of the recipe; a strength may have replay rows only."""
    every = job.recipe.proportions
    named = [name for name in every if job.dataset(name).is_dir() or not job.is_strength(name)]
    # Replay rows alone teach nothing: where nothing is prepared, what is missing is named.
    return {name: load_rows(job.dataset(name), split) for name in named or every}


def validation_rows(job: TrainingJob, most: int) -> dict[str, list[Row]]:
    """Validation rows, at most `most` each, of learned domains without validation questions."""
    names = [name for name in job.learned if not job.tasks(name, "validation")]
    rows = prepared_rows(job, "validation") if names else {}
    return {name: rows[name][:most] for name in names if rows.get(name)}
