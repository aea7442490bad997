"""A run of one of TRL's trainers: resumption, progress, validation, and the time of its steps."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from statistics import fmean
from typing import Any

from transformers import TrainerCallback

from finetune.stages.trainers import StageJob
from finetune.training.early_stopping import Validate
from finetune.training.gradients import eval_mode
from finetune.training.train_output import OnProgress, TrainingProgress

#: Seconds of steps that suffice to know how long one takes.
_ENOUGH = 5.0


def train(trainer: Any, job: StageJob, validate: Validate | None, notify: OnProgress) -> float:
    """Train, from the last whole checkpoint where there is one; return the seconds of all steps.

    Steps before an interruption count at the pace of those after it.
    """
    spent = step_clock(trainer)
    trainer.add_callback(_watch(trainer, job, validate, notify))
    trainer.train(resume_from_checkpoint=last_whole_checkpoint(job.folder))
    return fmean(spent) * float(trainer.state.global_step) if spent else 0.0


def step_seconds(trainer: Any) -> list[float]:
    """The seconds of each of a few steps, the first of which may be slower."""
    spent = step_clock(trainer, enough=_ENOUGH)
    trainer.train()
    return spent


def last_whole_checkpoint(folder: Path) -> str | None:
    """The newest checkpoint whose state was written, which is written last."""
    found = sorted(folder.glob("checkpoint-*"), key=lambda path: int(path.name.split("-")[1]))
    for path in reversed(found):
        try:
            json.loads((path / "trainer_state.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            continue
        return str(path)
    return None


def step_clock(
    trainer: Any, enough: float = math.inf, clock: Callable[[], float] = time.perf_counter
) -> list[float]:
    """The seconds of each step, as they come; after `enough` of them the training ends."""
    spent: list[float] = []

    class Clock(TrainerCallback):  # type: ignore[misc]
        begun = 0.0

        def on_step_begin(self, *_: Any, **__: Any) -> None:
            self.begun = clock()

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            spent.append(clock() - self.begun)
            if sum(spent) > enough:
                control.should_training_stop = True

    trainer.add_callback(Clock())
    return spent


def _watch(trainer: Any, job: StageJob, validate: Validate | None, notify: OnProgress) -> Any:
    begun, first = time.perf_counter(), [0]

    class Watch(TrainerCallback):  # type: ignore[misc]
        def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            first[0] = state.global_step

        def on_log(
            self, args: Any, state: Any, control: Any, logs: Mapping[str, Any], **_: Any
        ) -> None:
            if "loss" in logs:
                done = max(1, state.global_step - first[0])
                each = (time.perf_counter() - begun) / done
                tokens = float(logs.get("num_tokens", 0)) / (each * state.global_step or 1)
                loss = float(logs["loss"])
                notify(TrainingProgress(state.global_step, state.max_steps, loss, tokens))

        def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
            every, step = job.training.eval_every, state.global_step
            if validate is None or not every or step % every or step >= state.max_steps:
                return
            with eval_mode(trainer.model) as live:
                result = validate(live, step)
            if result.regressed:
                control.should_training_stop = True

    return Watch()
