"""One training under way, in one process or in several."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from domainlift.files import disk_errors
from finetune.adapters.methods import attach, detach, recompute, trainable
from finetune.distributed.fsdp import in_use, root_of_parts, whole
from finetune.distributed.process_group import Team
from finetune.distributed.rank_zero import led
from finetune.memory.estimate import plan, sizes
from finetune.training.adapter_trainer import Course, Start
from finetune.training.early_stopping import Validate
from finetune.training.gradients import Worker
from finetune.training.packing import Limits, most_trained
from finetune.training.settings import Training
from finetune.training.tokenize import Encoded
from finetune.training.train_result import Notify, Progress, Trained

if TYPE_CHECKING:
    import torch


class Run:
    """One training under way."""

    def __init__(
        self,
        examples: Sequence[Encoded],
        model: Any,
        settings: Training,
        folder: Path,
        team: Team = Team(),
    ) -> None:
        self.settings = settings
        self.team = team
        self._start = Start.of(model, settings)
        # Who holds a part of the model makes as many passes as the others do.
        in_step = team if root_of_parts(model) is not None else Team()
        limits, recomputes = _agreed(
            in_step, model.device, planned(model, settings, examples, processes=in_step.size)
        )
        self.live = attach(model, settings).train()
        try:
            self.course = Course(
                examples, settings, folder, trainable(self.live), self._start, writes=team.leads
            )
            half = works_in_half(settings, self._start)
            self.worker = Worker(
                self.live, settings, limits, recomputes=recomputes, half=half, in_step=in_step
            )
        except BaseException:
            self._take_off()
            raise

    def resume(self) -> None:
        """Go to the last checkpoint, where one is; Misuse where it is of another training."""
        self.course.resume(self.worker)

    def go(self, validate: Validate | None, notify: Notify | None) -> None:
        """Take the steps that are left."""
        course, settings = self.course, self.settings
        course.begin_log()
        begun = time.perf_counter() - course.state.seconds
        watched = bool(self._led(lambda: "watched" if validate is not None else ""))
        while not course.ended:
            self._step()
            course.log()
            if notify is not None and self.team.leads:
                notify(self._progress())
            if watched and course.due(settings.eval_every):
                self._validate(validate)
            course.state.seconds = time.perf_counter() - begun
            if course.due(settings.save_every) or course.ended:
                course.store(self.worker)

    def save(self, folder: Path, tokenizer: Any) -> None:
        """Write the best weights as their library does, and the curves."""
        if self.team.leads or root_of_parts(self.live) is not None:
            self.course.to_best()
        weights = None
        if self.settings.method == "full":
            self.live.to(self._start.dtype)
            weights = {name: whole(weight) for name, weight in self.live.state_dict().items()}
        self._led(partial(self._write, folder, tokenizer, weights))

    def close(self) -> None:
        """Take the adapter off and end the log."""
        self.course.close()
        self._take_off()

    def trained(self) -> Trained:
        """The outcome."""
        return self.course.trained(self.worker)

    def _take_off(self) -> None:
        recompute(self.live, on=False)
        detach(self.live).eval()

    def _step(self) -> None:
        course = self.course
        begun = time.perf_counter()
        rows = course.rows()
        trained = sum(example.trained for example in rows)
        self.team.seed(self.settings.seed, course.state.step)
        loss = self.worker.gradients(self.team.share(rows), trained)
        course.step(rows, self.team.add_up(course.weights.values(), loss))
        course.state.working += time.perf_counter() - begun

    def _validate(self, validate: Validate | None) -> None:
        def look() -> str:
            if validate is not None:
                self.course.look(validate, self.live)
            watch = self.course.state.watch
            return f"{watch.best_step} {watch.stopped}"

        best, _, stopped = self._led(look).partition(" ")
        state = self.course.state
        state.watch = replace(state.watch, best_step=int(best), stopped=stopped)
        self.course.keep_best()

    def _write(self, folder: Path, tokenizer: Any, weights: Mapping[str, Any] | None) -> str:
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            if weights is None:
                self.live.save_pretrained(str(folder))
            else:
                self.live.save_pretrained(str(folder), state_dict=weights)
                tokenizer.save_pretrained(str(folder))
        self.course.write_curves(folder)
        return "saved"

    def _led(self, work: Callable[[], str]) -> str:
        return led(self.team, self.live, work)

    def _progress(self) -> Progress:
        course, state = self.course, self.course.state
        return Progress(state.step, course.steps, state.losses[-1], course.speed, course.left)


def planned(
    model: Any,
    settings: Training,
    examples: Sequence[Encoded],
    *,
    adapters: int = 1,
    processes: int = 1,
) -> tuple[Limits, bool]:
    """What goes through a model at once under so many adapters, and whether it is recomputed.

    So many `processes` share it out.
    """
    if settings.micro_batch is not None and settings.checkpointing is not None:
        limits = Limits(
            settings.micro_batch, most_trained(model.config.get_text_config().vocab_size)
        )
        return limits, settings.checkpointing  # nothing is left to measure
    longest = max(len(example.ids) for example in examples)
    # Adapters side by side are one whose rank is the sum of theirs.
    found = sizes(model.config, replace(settings, rank=settings.rank * adapters))
    found = found.shared(processes, settings.method)
    return plan(found, settings, longest, str(model.device), in_use(model))


def _agreed(others: Team, device: torch.device, own: tuple[Limits, bool]) -> tuple[Limits, bool]:
    """What all of these processes have the memory for."""
    limits, recomputes = own
    tokens = -others.most(-limits.tokens, device)
    return replace(limits, tokens=tokens), bool(others.most(recomputes, device))


def works_in_half(settings: Training, start: Start) -> bool:
    """Whether the base works in bfloat16."""
    import torch

    return settings.dtype == "bfloat16" or (
        settings.dtype == "auto" and start.dtype == torch.bfloat16
    )
