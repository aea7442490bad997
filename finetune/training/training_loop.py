"""Training loop: steps, validation, checkpoints, in one process or several."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from domainlift.files import disk_errors
from finetune.adapters.methods import attach, detach, recompute, trainable
from finetune.distributed.fsdp import fsdp_root, in_use
from finetune.distributed.process_group import ProcessGroup
from finetune.distributed.rank_zero import run_on_rank_zero
from finetune.memory.estimate import model_sizes, plan_memory
from finetune.training.adapter_trainer import AdapterTrainer, BaseInfo
from finetune.training.early_stopping import Validate
from finetune.training.gradients import GradientWorker
from finetune.training.packing import PackLimits, most_trained
from finetune.training.precision import autocasts
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import Encoded
from finetune.training.train_result import OnProgress, TrainingProgress, TrainResult

#: Seconds after which one process stores its training, however many steps that were.
MOST_UNSTORED = 120.0


class TrainingLoop:
    """One training under way."""

    def __init__(
        self,
        examples: Sequence[Encoded],
        model: Any,
        settings: TrainingArguments,
        folder: Path,
        team: ProcessGroup = ProcessGroup(),
    ) -> None:
        self.settings = settings
        self.team = team
        self._start = BaseInfo.of(model, settings)
        # Who holds a part of the model makes as many passes as the others do.
        in_step = team if fsdp_root(model) is not None else ProcessGroup()
        limits, recomputes = _agreed(
            in_step, model.device, planned(model, settings, examples, processes=in_step.size)
        )
        self.live = attach(model, settings).train()
        try:
            self.trainer = AdapterTrainer(
                examples, settings, folder, trainable(self.live), self._start, writes=team.is_main
            )
            start = self._start.dtype
            half = autocasts(model.config, settings, start, str(model.device))
            self.worker = GradientWorker(
                self.live, settings, limits, recomputes=recomputes, half=half, in_step=in_step
            )
        except BaseException:
            self._take_off()
            raise

    def resume(self) -> None:
        """Go to the last checkpoint, where one is; Misuse where it is of another training."""
        self.trainer.resume(self.worker)

    def run(self, validate: Validate | None, on_progress: OnProgress | None) -> None:
        """Take the steps that are left."""
        trainer, settings = self.trainer, self.settings
        trainer.begin_log()
        stored = time.perf_counter()
        begun = stored - trainer.state.seconds
        watched = bool(self._led(lambda: "watched" if validate is not None else ""))
        while not trainer.ended:
            self._step()
            trainer.log()
            if on_progress is not None and self.team.is_main:
                on_progress(self._progress())
            if watched and trainer.due(settings.eval_every):
                self._validate(validate)
            now = time.perf_counter()
            trainer.state.seconds = now - begun
            # Processes that store together go by the number of the step, which all of them know.
            late = now - stored > MOST_UNSTORED and self.team.size == 1
            if late or trainer.due(settings.save_every) or trainer.ended:
                trainer.store(self.worker)
                stored = now

    def save(self, folder: Path) -> None:
        """Write the best weights as their library does, and the curves."""
        if self.team.is_main:
            self.trainer.to_best()
        self._led(partial(self._write, folder))

    def close(self) -> None:
        """Take the adapter off and end the log."""
        self.trainer.close()
        self._take_off()

    def _take_off(self) -> None:
        recompute(self.live, on=False)
        detach(self.live).eval()

    def trained(self) -> TrainResult:
        """The outcome."""
        return self.trainer.trained(self.worker)

    def _step(self) -> None:
        trainer = self.trainer
        begun = time.perf_counter()
        rows = trainer.rows()
        trained = sum(example.trained for example in rows)
        self.team.seed(self.settings.seed, trainer.state.step)
        loss = self.worker.gradients(self.team.share(rows), trained)
        trainer.step(rows, self.team.all_reduce_sum(trainer.weights.values(), loss))
        trainer.state.working += time.perf_counter() - begun

    def _validate(self, validate: Validate | None) -> None:
        state = self.trainer.state

        def validated() -> str:
            if validate is not None:
                self.trainer.validate(validate, self.live)
            return f"{state.early_stopping.best_step} {state.early_stopping.stopped}"

        best, _, stopped = self._led(validated).partition(" ")
        state.early_stopping = replace(state.early_stopping, best_step=int(best), stopped=stopped)
        self.trainer.keep_best()

    def _write(self, folder: Path) -> str:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.live.save_pretrained(str(folder))
        self.trainer.write_curves(folder)
        return "saved"

    def _led(self, work: Callable[[], str]) -> str:
        return run_on_rank_zero(self.team, self.live, work)

    def _progress(self) -> TrainingProgress:
        trainer, state = self.trainer, self.trainer.state
        return TrainingProgress(state.step, trainer.steps, state.losses[-1], trainer.speed)


def planned(
    model: Any,
    settings: TrainingArguments,
    examples: Sequence[Encoded],
    *,
    processes: int = 1,
) -> tuple[PackLimits, bool]:
    """Plan the limits of a pass, and whether activations are recomputed.

    So many `processes` share the model out.
    """
    if settings.micro_batch is not None and settings.checkpointing is not None:
        limits = PackLimits(
            settings.micro_batch, most_trained(model.config.get_text_config().vocab_size)
        )
        return limits, settings.checkpointing  # nothing is left to measure
    longest = max(len(example.ids) for example in examples)
    sizes = model_sizes(model.config, settings, str(model.device))
    sizes = sizes.shared(processes)
    return plan_memory(sizes, settings, longest, str(model.device), in_use(model))


def _agreed(
    others: ProcessGroup, device: torch.device, own: tuple[PackLimits, bool]
) -> tuple[PackLimits, bool]:
    """The smallest limits of all ranks."""
    limits, recomputes = own
    tokens = -others.all_reduce_max(-limits.tokens, device)
    return replace(limits, tokens=tokens), bool(others.all_reduce_max(recomputes, device))
