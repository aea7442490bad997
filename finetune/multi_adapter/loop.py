"""Train the adapters of several domains in one pass over one frozen base.

Each takes its own steps, by its own rows, schedule, clipping and validation; only the passes
through the model are shared, in packs in which each token goes through its own adapter. Checkpoints
are those of a training by itself: either way of training goes on from what the other has left.
"""

from __future__ import annotations

import math
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainlift.errors import Misuse
from domainlift.files import disk_errors
from finetune.adapters.methods import attach, detach, recompute, trainable
from finetune.data.rows import Row
from finetune.distributed.process_group import ProcessGroup, from_environment
from finetune.multi_adapter.gradients import JointGradientWorker
from finetune.training.adapter_trainer import AdapterTrainer, BaseInfo
from finetune.training.divergence import Diverged
from finetune.training.early_stopping import Validate
from finetune.training.gradients import memory_errors
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import Encoded, encode
from finetune.training.train import only_one
from finetune.training.train_result import OnProgress, TrainingProgress, TrainResult
from finetune.training.training_loop import planned, works_in_half

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from finetune.multi_adapter.layers import Joint

METHODS = ("lora", "rslora")


@dataclass(frozen=True)
class JointTask:
    """What one adapter learns, where its training lies, and what watches it."""

    rows: Sequence[Row]
    checkpoint_folder: Path
    adapter_folder: Path
    validate: Validate | None = None


def train_together(
    subjects: Mapping[str, JointTask],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: TrainingArguments,
    notify: OnProgress | None = None,
) -> dict[str, TrainResult]:
    """Train an adapter for each subject, from its last checkpoint where one is, and save it.

    The outcome of each is that of `finetune.training.train.train`, but for rounding and, with
    dropout, for the random numbers. `seconds` are an adapter's share of the time, by its tokens,
    with its own validations. `model` is given back without adapters, frozen. Raises as `train`
    does, and Misuse for methods and launchers that it cannot work with.
    """
    refuse_unfit(settings)
    for name, subject in subjects.items():
        if not subject.rows:
            raise Misuse(f"`{name}` has nothing to train on", "`bench data prepare` makes rows")
    with ExitStack() as held:
        for subject in subjects.values():
            held.enter_context(only_one(subject.checkpoint_folder, ProcessGroup()))
        held.enter_context(memory_errors("the optimisers or the validation"))
        school = _JointLoop(subjects, model, tokenizer, settings)
        held.callback(school.close)
        school.go(notify)
        school.save()
        return {name: course.trained(school.worker) for name, course in school.courses.items()}


def refuse_unfit(settings: TrainingArguments) -> None:
    """Raise Misuse where adapters cannot be trained together."""
    if settings.method not in METHODS:
        known = " or ".join(f"`{name}`" for name in METHODS)
        raise Misuse(
            f"adapters are trained together with {known}, not with `{settings.method}`",
            "leave out `--together`, or choose another method",
        )
    if from_environment().size > 1:
        raise Misuse(
            "adapters are trained together in one process",
            "leave out the launcher, or `--together`",
        )


class _JointLoop:
    """Several courses under way over one model."""

    def __init__(
        self,
        subjects: Mapping[str, JointTask],
        model: Any,
        tokenizer: Any,
        settings: TrainingArguments,
    ) -> None:
        examples = {
            name: encode(subject.rows, tokenizer, max_tokens=settings.max_tokens, end=settings.end)
            for name, subject in subjects.items()
        }
        start = BaseInfo.of(model, settings)
        every = [example for own in examples.values() for example in own]
        limits, recomputes = planned(model, settings, every, adapters=len(subjects))
        half = works_in_half(settings, start)
        self._settings = settings
        self._subjects = subjects
        self.courses: dict[str, AdapterTrainer] = {}
        self.joint = _fresh(model, settings, tuple(subjects))
        try:
            self.joint.model.train()
            self.worker = JointGradientWorker(
                self.joint, settings, limits=limits, recomputes=recomputes, half=half
            )
            for name, subject in subjects.items():
                weights = _parameters(self.joint.weights(name))
                folder = subject.checkpoint_folder
                course = AdapterTrainer(examples[name], settings, folder, weights, start)
                course.resume(self.worker)
                self.courses[name] = course
        except BaseException:
            self.close()
            raise

    def go(self, notify: OnProgress | None) -> None:
        """Take the steps that are left, each adapter its own."""
        for course in self.courses.values():
            course.begin_log()
        while active := {name: each for name, each in self.courses.items() if not each.ended}:
            self._step(active)
            if notify is not None:
                notify(self._progress(active))
            for name, course in active.items():
                with _timed(course):
                    self._look(name, course)
                if course.due(self._settings.save_every) or course.ended:
                    with _timed(course):
                        course.store(self.worker)

    def save(self) -> None:
        """Write each adapter's best weights as PEFT does, and its curves."""
        from finetune.multi_adapter.layers import split_adapters

        for name, course in self.courses.items():
            course.to_best()
            folder = self._subjects[name].adapter_folder
            with disk_errors(folder):
                split_adapters(self.joint, {name: folder})
            course.write_curves(folder)

    def close(self) -> None:
        """Take the adapters off and end the logs."""
        for course in self.courses.values():
            course.close()
        recompute(self.joint.model, on=False)
        self.joint.detach().eval()

    def _step(self, active: Mapping[str, AdapterTrainer]) -> None:
        begun = time.perf_counter()
        rows = {name: active[name].rows() if name in active else [] for name in self.courses}
        losses = dict(zip(rows, self.worker.each(list(rows.values())), strict=True))
        # What is no number spoils the gradients of others: the one to blame comes first.
        for name in sorted(active, key=lambda each: math.isfinite(losses[each])):
            self._follow(name, rows[name], losses[name])
        spent = time.perf_counter() - begun
        tokens = {name: sum(len(example.ids) for example in rows[name]) for name in active}
        for name, course in active.items():
            share = spent * tokens[name] / sum(tokens.values())
            course.state.working += share
            course.state.seconds += share
            course.log()

    def _follow(self, name: str, rows: Sequence[Encoded], loss: float) -> None:
        course = self.courses[name]
        found = _named(self.joint.gradients(name))
        for key, weight in course.weights.items():
            weight.grad = found.get(key)
        try:
            course.step(rows, loss)
        except Diverged as error:
            raise Diverged(f"`{name}`: {error.what}", error.hint) from error

    def _look(self, name: str, course: AdapterTrainer) -> None:
        validate = self._subjects[name].validate
        if validate is None or not course.due(self._settings.eval_every):
            return
        with self.joint.using(name):
            course.validate(validate, self.joint.model)
        course.keep_best()

    def _progress(self, active: Mapping[str, AdapterTrainer]) -> TrainingProgress:
        """How far the longest one is; loss and time are those of all together."""
        courses = active.values()
        furthest = max(courses, key=lambda course: course.steps)
        working = sum(course.state.working for course in courses)
        return TrainingProgress(
            furthest.state.step,
            furthest.steps,
            sum(course.state.losses[-1] for course in courses) / len(courses),
            sum(course.state.tokens for course in courses) / max(working, 1e-9),
            sum(course.left for course in courses),
        )


@contextmanager
def _timed(course: AdapterTrainer) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    course.state.seconds += time.perf_counter() - begun


def _fresh(model: Any, settings: TrainingArguments, names: Sequence[str]) -> Joint:
    """Adapters that begin as each would by itself, with the numbers that PEFT draws."""
    import torch

    from finetune.multi_adapter.layers import Joint

    live = attach(model, settings)
    config = live.peft_config["default"]
    config.inference_mode = True  # as it is saved
    begin = {name: weight.detach().clone() for name, weight in trainable(live).items()}
    joint = Joint(detach(live), dict.fromkeys(names, config))
    with torch.no_grad():
        for name in names:
            for key, weight in _named(joint.weights(name)).items():
                weight.copy_(begin[key])
    return joint


def _parameters(views: Mapping[str, torch.Tensor]) -> dict[str, torch.nn.Parameter]:
    """Parameters that share their numbers with an adapter's part of the layers."""
    import torch

    return {name: torch.nn.Parameter(view) for name, view in _named(views).items()}


def _named(views: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Names as in PEFT's model, where they stand without the adapter's in its files."""
    return {name.removesuffix("weight") + "default.weight": view for name, view in views.items()}
