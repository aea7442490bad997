"""Training of several adapters in one pass, each published as a version of its own."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace

from domainlift.activity import activity
from domainlift.errors import BenchError, Interrupted, Misuse
from engines.base import TrainableEngine
from finetune.adapters.registry import AdapterWriter
from finetune.budget import RowPlan
from finetune.data.replay import OnReplay, no_replay_progress
from finetune.jobs import TrainingJob
from finetune.multi_adapter.loop import JointTask, refuse_unfit, train_together
from finetune.train_adapter import (
    OnValidation,
    PreparedTraining,
    TrainingResult,
    adapter_writer,
    clean_up,
    prepare_training,
    publish,
    validation_of,
)
from finetune.training.train_result import OnProgress, TrainResult


@dataclass(frozen=True)
class JointResult:
    """The published adapters, and by name why others were not published."""

    made: tuple[TrainingResult, ...]
    errors: Mapping[str, BenchError]


def train_jointly(
    jobs: Sequence[TrainingJob],
    engine: TrainableEngine,
    on_progress: OnProgress,
    on_validation: Callable[[str], OnValidation],
    on_replay: OnReplay = no_replay_progress,
) -> JointResult:
    """Train all adapters by the settings of the first, from their last checkpoints.

    `on_validation` gives the callback of an adapter by its name. An adapter that cannot be trained
    (its budget is too small), or that did harm, is left out; the others are published. Raises the
    first's BenchError where none is left.
    """
    settings = jobs[0].settings
    refuse_unfit(settings)
    _refuse_duplicates([job.name for job in jobs])
    with ExitStack() as locks:
        writers = {job.name: locks.enter_context(adapter_writer(job)) for job in jobs}
        trainings, errors = _prepare_all(jobs, engine, on_replay)
        tasks = {
            name: JointTask(
                prepared.rows,
                prepared.folder,
                prepared.folder / "adapter",
                validation_of(prepared, on_validation(name)),
            )
            for name, prepared in trainings.items()
        }
        # All adapters take the same passes: those that fit into every budget.
        plan = min((each.plan for each in trainings.values()), key=_passes)
        settings = plan.settings(settings)
        with activity(f"training {', '.join(tasks)}"):
            results = train_together(tasks, engine.model, engine.tokenizer, settings, on_progress)
        made = _publish_all(trainings, writers, results)
        return replace(made, errors={**errors, **made.errors})


def _prepare_all(
    jobs: Sequence[TrainingJob], engine: TrainableEngine, on_replay: OnReplay
) -> tuple[dict[str, PreparedTraining], dict[str, BenchError]]:
    trainings: dict[str, PreparedTraining] = {}
    errors: dict[str, BenchError] = {}
    for job in jobs:
        try:
            trainings[job.name] = prepare_training(job, engine, on_replay=on_replay)
        except Interrupted:
            raise
        except BenchError as error:
            errors[job.name] = error
    if not trainings:
        raise next(iter(errors.values()))
    return trainings, errors


def _passes(plan: RowPlan) -> float:
    return math.inf if plan.passes is None else plan.passes


def _publish_all(
    trainings: Mapping[str, PreparedTraining],
    writers: Mapping[str, AdapterWriter | None],
    results: Mapping[str, TrainResult],
) -> JointResult:
    made: list[TrainingResult] = []
    errors: dict[str, BenchError] = {}
    for name, prepared in trainings.items():
        writer = writers[name]
        if writer is None:  # another process publishes
            continue
        try:
            made.append(publish(prepared, writer, results[name]))
        except BenchError as error:
            errors[name] = error
        else:
            clean_up(prepared.folder)
    return JointResult(tuple(made), errors)


def _refuse_duplicates(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise Misuse(f"`{name}` is named twice", "name each domain once")
