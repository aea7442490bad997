"""Train the adapters of several domains in one pass, and publish each as its own version."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domainlift.errors import BenchError, Misuse
from finetune.train_adapter import Lesson, Look, Made, lay_out, publish, tidy, validation, writing

if TYPE_CHECKING:
    from engines.local.engine import TransformersEngine
    from finetune.adapters.registry import Writer
    from finetune.jobs import Wish
    from finetune.replay_questions import Surroundings
    from finetune.training.train_result import Notify, Trained


@dataclass(frozen=True)
class Published:
    """What became of each: an adapter, or why there is none."""

    made: tuple[Made, ...]
    errors: Mapping[str, BenchError]


def train_adapters(
    jobs: Sequence[tuple[Wish, Surroundings]],
    engine: TransformersEngine,
    notify: Notify,
    look: Callable[[str], Look],
) -> Published:
    """Train all adapters by the settings of the first, from their last checkpoints.

    `look` gives what is called with each validation of an adapter. One whose training did harm is
    not published; the others are.
    """
    from finetune.multi_adapter.loop import Subject, refuse_unfit, train_together

    settings = jobs[0][0].settings
    refuse_unfit(settings)
    _refuse_twice([wish.name for wish, _ in jobs])
    with ExitStack() as held:
        writers = {wish.name: held.enter_context(writing(wish)) for wish, _ in jobs}
        lessons = {wish.name: lay_out(wish, around, engine) for wish, around in jobs}
        subjects = {
            name: Subject(
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
    lessons: Mapping[str, Lesson],
    writers: Mapping[str, Writer | None],
    trained: Mapping[str, Trained],
) -> Published:
    made: list[Made] = []
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
            tidy(lesson.folder)
    return Published(tuple(made), errors)


def _refuse_twice(names: Sequence[str]) -> None:
    for name in names:
        if names.count(name) > 1:
            raise Misuse(f"`{name}` is named twice", "name each domain once")
