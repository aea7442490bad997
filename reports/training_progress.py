"""Progress of trainings on stderr: a bar, and a line for each validation."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from domainlift.errors import Interrupted
from finetune.distributed.process_group import from_environment
from reports.progress import ProgressBar
from reports.terminal import duration

if TYPE_CHECKING:
    from finetune.data.replay import ReplayProgress
    from finetune.training.early_stopping import ValidationResult
    from finetune.training.train_result import TrainingProgress


@contextmanager
def training_progress() -> Iterator[TrainingProgressView]:
    """Show progress; Ctrl-C becomes an error that says how to go on."""
    with ProgressBar(0) as progress:
        view = TrainingProgressView(progress)
        try:
            yield view
        except KeyboardInterrupt as error:
            if not from_environment().is_main:  # rank 0 says how far they came
                raise
            raise Interrupted(
                f"stopped after step {view.step}",
                "repeat the same command: it goes on from the last checkpoint",
            ) from error


class TrainingProgressView:
    """Callbacks that show trainings under way; `step` is the last one."""

    def __init__(self, progress: ProgressBar) -> None:
        self.step = 0
        self._progress = progress

    def on_progress(self, now: TrainingProgress) -> None:
        """Show the loss and the speed of a step."""
        self.step = now.step
        text = f"loss {now.loss:.3f}  {now.tokens_per_second:,.0f} tokens/s"
        self._progress.reach(now.step, now.steps, text)

    def on_replay(self, now: ReplayProgress) -> None:
        """Show the questions that rows of known material are made of, from the first on."""
        if now.note:
            self._progress.say(now.note)
        elif not now.done:
            bound = "" if math.isinf(now.seconds) else f", for {duration(now.seconds)} at most"
            self._progress.say(f"what is known already: {now.total} questions of {now.task}{bound}")
        else:
            left = "" if math.isinf(now.seconds) else f" ({duration(now.seconds)} at most)"
            self._progress.reach(now.done, now.total, f"known already, {now.task}{left}")

    def on_validation(self, name: str) -> Callable[[ValidationResult, int], None]:
        """The callback that shows the validations of one adapter."""

        def show(result: ValidationResult, step: int) -> None:
            scores = "  ".join(f"{domain} {value:.3f}" for domain, value in result.scores.items())
            fallen = f"  fallen: {', '.join(result.regressed)}" if result.regressed else ""
            self._progress.say(f"{name}, step {step}, validation: {scores}{fallen}")

        return show

    def on_trial(self, number: int, settings: Mapping[str, Any]) -> None:
        """Show the settings of a trial."""
        values = ", ".join(f"{name} {value}" for name, value in settings.items())
        self._progress.say(f"trial {number}: {values}")
