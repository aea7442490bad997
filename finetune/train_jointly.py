"""Train the adapters of several domains in one pass, and publish each as its own version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domainlift.errors import BenchError, Misuse
from finetune.train_adapter import (
    OnValidation,
    PreparedTraining,
    TrainingResult,
    adapter_writer,
    clean_up,
    prepare_training,
    publish,
    validation,
)

if TYPE_CHECKING:
    from engines.base import TrainableEngine
    from finetune.adapters.registry import AdapterWriter
    from finetune.jobs import TrainingJob
    from finetune.replay_questions import TrainingDomains
    from finetune.training.train_result import OnProgress, TrainResult


@dataclass(frozen=True)
class JointResult:
    """What became of each: an adapter, or why there is none."""

    made: tuple[TrainingResult, ...]
    errors: Mapping[str, BenchError]


def train_adapters(
    jobs: Sequence[tuple[TrainingJob, TrainingDomains]],
    engine: TrainableEngine,
    notify: OnProgress,
    look: Callable[[str], OnValidation],
) -> JointResult:
    """Train all adapters by the settings of the first, from their last checkpoints.

    `look` gives what is called with each validation of an adapter. One whose training did harm is
    not published; the others are.
    """
    from finetune.multi_adapter.loop import JointTask, refuse_unfit, train_together

    settings = jobs[0][0].settings
    refuse_unfit(settings)
    _refuse_twice([wish.name for wish, _ in jobs])
    with ExitStack() as held:
        writers = {wish.name: held.enter_context(adapter_writer(wish)) for wish, _ in jobs}
        lessons = {wish.name: prepare_training(wish, around, engine) for wish, around in jobs}
        subjects = {
            name: JointTask(
                lesson.rows,
                lesson.folder,
                lesson.folder / "adapter",
                validation(lesson, look(name)),
            )
            for name, lesson in lessons.items()
        }
        trained = train_together(subjects, engine.model, engine.tokenizer, settings, notify)
        return _published(lessons, writers, trained)


def _published(
    lessons: Mapping[str, PreparedTraining],
    writers: Mapping[str, AdapterWriter | None],
    trained: Mapping[str, TrainResult],
) -> JointResult:
    made: list[TrainingResult] = []
    errors: dict[str, BenchError] = {}
    for name, lesson in lessons.items():
        writer = writers[name]
        if writer is None:  # another process publishes
            continue
        try:
            made.append(publish(lesson, writer, trained[name]))
        except BenchError as error:
            errors[name] = error
        else:
            clean_up(lesson.folder)
    return JointResult(tuple(made), errors)


def _refuse_twice(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise Misuse(f"`{name}` is named twice", "name each domain once")
