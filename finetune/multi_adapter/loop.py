"""Train the adapters of several domains in one pass over one frozen base.

Each adapter has its own rows, schedule, clipping and validation; only the passes
through the model are shared, in packs in which each token goes through its own adapter. Checkpoints
are those of a training of one adapter, and either kind of training resumes from the other's.
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
from finetune.training.precision import autocasts
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import Encoded, encode
from finetune.training.train import only_one
from finetune.training.train_result import OnProgress, TrainingProgress, TrainResult
from finetune.training.training_loop import planned

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel, PreTrainedTokenizerBase

    from finetune.multi_adapter.layers import Joint

METHODS = ("lora", "rslora")


@dataclass(frozen=True)
class JointTask:
    """Rows, folders and validation of one adapter of a joint training."""

    rows: Sequence[Row]
    checkpoint_folder: Path
    adapter_folder: Path
    validate: Validate | None = None


def train_together(
    tasks: Mapping[str, JointTask],
    model: PreTrainedModel,
    tokenizer: PreTrainedTokenizerBase,
    settings: TrainingArguments,
    notify: OnProgress | None = None,
) -> dict[str, TrainResult]:
    """Train one adapter per task, from its last checkpoint where there is one, and save it.

    The result of each is that of `finetune.training.train.train`, but for rounding and, with
    dropout, for the random numbers. `seconds` are an adapter's share of the time, by its tokens,
    with its own validations. `model` is given back without adapters, frozen. Raises as `train`
    does, and Misuse for methods and launchers that it cannot work with.
    """
    refuse_unfit(settings)
    for name, task in tasks.items():
        if not task.rows:
            raise Misuse(f"`{name}` has nothing to train on", "`bench data prepare` makes rows")
    with ExitStack() as held:
        for task in tasks.values():
            held.enter_context(only_one(task.checkpoint_folder, ProcessGroup()))
        held.enter_context(memory_errors("the optimisers or the validation"))
        loop = _JointLoop(tasks, model, tokenizer, settings)
        held.callback(loop.close)
        loop.go(notify)
        loop.save()
        return {name: trainer.trained(loop.worker) for name, trainer in loop.trainers.items()}


def refuse_unfit(settings: TrainingArguments) -> None:
    """Raise Misuse where adapters cannot be trained together."""
    if settings.method not in METHODS:
        methods = " or ".join(f"`{name}`" for name in METHODS)
        raise Misuse(
            f"adapters are trained together with {methods}, not with `{settings.method}`",
            "leave out `--together`, or choose another method",
        )
    if from_environment().size > 1:
        raise Misuse(
            "adapters are trained together in one process",
            "leave out the launcher, or `--together`",
        )


class _JointLoop:
    """Loop over the steps of several trainers that share one model."""

    def __init__(
        self,
        tasks: Mapping[str, JointTask],
        model: Any,
        tokenizer: Any,
        settings: TrainingArguments,
    ) -> None:
        examples = {
            name: encode(task.rows, tokenizer, max_tokens=settings.max_tokens, end=settings.end)
            for name, task in tasks.items()
        }
        start = BaseInfo.of(model, settings)
        every = [example for own in examples.values() for example in own]
        limits, recomputes = planned(model, settings, every, adapters=len(tasks))
        half = autocasts(model.config, settings, start.dtype, str(model.device))
        self._settings = settings
        self._tasks = tasks
        self.trainers: dict[str, AdapterTrainer] = {}
        self.joint = _fresh(model, settings, tuple(tasks))
        try:
            self.joint.model.train()
            self.worker = JointGradientWorker(
                self.joint, settings, limits=limits, recomputes=recomputes, half=half
            )
            for name, task in tasks.items():
                weights = _parameters(self.joint.weights(name))
                folder = task.checkpoint_folder
                trainer = AdapterTrainer(examples[name], settings, folder, weights, start)
                trainer.resume(self.worker)
                self.trainers[name] = trainer
        except BaseException:
            self.close()
            raise

    def go(self, notify: OnProgress | None) -> None:
        """Take the remaining steps of every adapter."""
        for trainer in self.trainers.values():
            trainer.begin_log()
        while active := {name: each for name, each in self.trainers.items() if not each.ended}:
            self._step(active)
            if notify is not None:
                notify(self._progress(active))
            for name, trainer in active.items():
                with _timed(trainer):
                    self._validate(name, trainer)
                if trainer.due(self._settings.save_every) or trainer.ended:
                    with _timed(trainer):
                        trainer.store(self.worker)

    def save(self) -> None:
        """Write each adapter's best weights as PEFT does, and its curves."""
        from finetune.multi_adapter.layers import split_adapters

        for name, trainer in self.trainers.items():
            trainer.to_best()
            folder = self._tasks[name].adapter_folder
            with disk_errors(folder):
                split_adapters(self.joint, {name: folder})
            trainer.write_curves(folder)

    def close(self) -> None:
        """Take the adapters off and end the logs."""
        for trainer in self.trainers.values():
            trainer.close()
        recompute(self.joint.model, on=False)
        self.joint.detach().eval()

    def _step(self, active: Mapping[str, AdapterTrainer]) -> None:
        begun = time.perf_counter()
        rows = {name: active[name].rows() if name in active else [] for name in self.trainers}
        losses = dict(zip(rows, self.worker.each(list(rows.values())), strict=True))
        # What is no number spoils the gradients of others: the one to blame comes first.
        for name in sorted(active, key=lambda each: math.isfinite(losses[each])):
            self._follow(name, rows[name], losses[name])
        spent = time.perf_counter() - begun
        tokens = {name: sum(len(example.ids) for example in rows[name]) for name in active}
        for name, trainer in active.items():
            share = spent * tokens[name] / sum(tokens.values())
            trainer.state.working += share
            trainer.state.seconds += share
            trainer.log()

    def _follow(self, name: str, rows: Sequence[Encoded], loss: float) -> None:
        trainer = self.trainers[name]
        gradients = _named(self.joint.gradients(name))
        for key, weight in trainer.weights.items():
            weight.grad = gradients.get(key)
        try:
            trainer.step(rows, loss)
        except Diverged as error:
            raise Diverged(f"`{name}`: {error.what}", error.hint) from error

    def _validate(self, name: str, trainer: AdapterTrainer) -> None:
        validate = self._tasks[name].validate
        if validate is None or not trainer.due(self._settings.eval_every):
            return
        with self.joint.using(name):
            trainer.validate(validate, self.joint.model)
        trainer.keep_best()

    def _progress(self, active: Mapping[str, AdapterTrainer]) -> TrainingProgress:
        """Progress of the longest training; loss and time are those of all together."""
        trainers = active.values()
        furthest = max(trainers, key=lambda trainer: trainer.steps)
        working = sum(trainer.state.working for trainer in trainers)
        return TrainingProgress(
            furthest.state.step,
            furthest.steps,
            sum(trainer.state.losses[-1] for trainer in trainers) / len(trainers),
            sum(trainer.state.tokens for trainer in trainers) / max(working, 1e-9),
            sum(trainer.left for trainer in trainers),
        )


@contextmanager
def _timed(trainer: AdapterTrainer) -> Iterator[None]:
    begun = time.perf_counter()
    yield
    trainer.state.seconds += time.perf_counter() - begun


def _fresh(model: Any, settings: TrainingArguments, names: Sequence[str]) -> Joint:
    """Adapters initialised as in a training of its own, with the numbers that PEFT draws."""
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
