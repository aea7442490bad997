"""Training loop of one adapter: steps, validation, checkpoints, in one process or several."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from domainlift.errors import Misuse
from domainlift.files import disk_errors, write_json
from finetune.adapters.methods import attach, detach, recompute, trainable, weights_fingerprint
from finetune.distributed.fsdp import fsdp_root, in_use
from finetune.distributed.process_group import ProcessGroup
from finetune.distributed.rank_zero import run_on_rank_zero
from finetune.memory.estimate import model_sizes, peak_bytes, plan_memory
from finetune.training import checkpoints
from finetune.training.divergence import check_divergence
from finetune.training.early_stopping import EarlyStopping, Validate
from finetune.training.gradients import GradientWorker, eval_mode, random_states, set_random_states
from finetune.training.packing import PackLimits, most_trained
from finetune.training.precision import autocasts
from finetune.training.schedule import batch_indices, rate_at
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import Encoded, truncated
from finetune.training.trackers import Curves
from finetune.training.train_output import OnProgress, TrainingProgress, TrainOutput

#: Seconds after which one process stores its training, however many steps that were.
MOST_UNSTORED = 120.0
_CURVES = "curves.json"


@dataclass
class TrainerState:
    """State of a training beside its tensors; JSON in checkpoints."""

    step: int = 0
    tokens: int = 0
    working: float = 0.0
    seconds: float = 0.0
    losses: list[float] = field(default_factory=list)
    validations: list[dict[str, Any]] = field(default_factory=list)
    early_stopping: EarlyStopping = field(default_factory=EarlyStopping)

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> TrainerState:
        """The state in a checkpoint."""
        return cls(**{**stored, "early_stopping": EarlyStopping(**stored["early_stopping"])})


class TrainingLoop:
    """One training under way, on rows in tokens; of the processes of a team rank 0 writes."""

    def __init__(
        self,
        examples: Sequence[Encoded],
        model: Any,
        settings: TrainingArguments,
        folder: Path,
        team: ProcessGroup,
    ) -> None:
        self._examples = examples
        self._settings = settings
        self._folder = folder
        self._team = team
        self._steps = settings.total_steps(len(examples))
        self._state = TrainerState()
        self._curves: Curves | None = None
        self._base = weights_fingerprint(model)
        self._peak_rate = settings.rate(model.config.get_text_config().hidden_size)
        # Who holds a part of the model makes as many passes as the others do.
        in_step = team if fsdp_root(model) is not None else ProcessGroup()
        limits, recomputes = _agreed(
            in_step, model.device, _planned(model, settings, examples, in_step.size)
        )
        half = autocasts(model.config, settings, model.dtype, str(model.device))
        self.live = attach(model, settings).train()
        try:
            self._weights = trainable(self.live)
            self._optimiser = torch.optim.AdamW(
                self._weights.values(), weight_decay=settings.weight_decay, fused=True
            )
            self._worker = GradientWorker(
                self.live, settings, limits, recomputes=recomputes, half=half, in_step=in_step
            )
        except BaseException:
            self._take_off()
            raise

    def resume(self) -> None:
        """Go to the last checkpoint, where one is; Misuse where it is of another training."""
        checkpoint = checkpoints.last_checkpoint(self._folder)
        if checkpoint is None:
            return
        self._check(checkpoint.state.get("training", {}))
        try:
            self._take(checkpoint)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise checkpoints.damaged_checkpoint(self._folder, error) from error

    def run(self, validate: Validate | None, on_progress: OnProgress | None) -> None:
        """Take the steps that are left."""
        settings, state = self._settings, self._state
        if self._team.is_main:
            self._curves = Curves(settings.track, self._folder, state.step)
        stored = time.perf_counter()
        begun = stored - state.seconds
        watched = bool(self._led(lambda: "watched" if validate is not None else ""))
        while not self._ended:
            self._step()
            self._log({"train/loss": state.losses[-1], "train/tokens_per_second": self._speed})
            if on_progress is not None and self._team.is_main:
                on_progress(
                    TrainingProgress(state.step, self._steps, state.losses[-1], self._speed)
                )
            if watched and self._due(settings.eval_every):
                self._validate(validate)
            now = time.perf_counter()
            state.seconds = now - begun
            # Processes that store together go by the number of the step, which all of them know.
            late = now - stored > MOST_UNSTORED and self._team.size == 1
            if late or self._due(settings.save_every) or self._ended:
                self._store()
                stored = now

    def save(self, folder: Path) -> None:
        """Write the best weights as their library does, and the curves."""
        best = self._state.early_stopping.best_step
        if self._team.is_main and best and best != self._state.step:
            self._set(checkpoints.load_best(self._folder, best))
        self._led(partial(self._write, folder))

    def close(self) -> None:
        """Take the adapter off and end the log."""
        if self._curves is not None:
            self._curves.close()
        self._take_off()

    def trained(self) -> TrainOutput:
        """The outcome."""
        state, stopping = self._state, self._state.early_stopping
        return TrainOutput(
            steps=state.step,
            tokens=state.tokens,
            tokens_per_second=self._speed,
            peak_bytes=peak_bytes(self._worker.device),
            seconds=state.seconds,
            losses=tuple(state.losses),
            best_step=stopping.best_step or state.step,
            stopped=stopping.stopped or "done",
            regressed=tuple(stopping.regressed),
            validations=tuple(state.validations),
            truncated=tuple(truncated(self._examples)),
            micro_batch=self._worker.limits.tokens,
            checkpointing=self._worker.recomputes,
        )

    @property
    def _ended(self) -> bool:
        """Whether all steps are taken, or validation has ended it."""
        return self._state.step >= self._steps or bool(self._state.early_stopping.stopped)

    @property
    def _speed(self) -> float:
        """Tokens per second so far, without validation."""
        return self._state.tokens / max(self._state.working, 1e-9)

    def _due(self, every: int) -> bool:
        """Whether the step is a multiple of `every` or the last one; never for 0."""
        return every > 0 and (self._state.step % every == 0 or self._state.step == self._steps)

    def _rate(self, step: int) -> float:
        return rate_at(step, self._steps, self._settings.warm_up, self._peak_rate)

    def _take_off(self) -> None:
        recompute(self.live, on=False)
        detach(self.live).eval()

    def _led(self, work: Callable[[], str]) -> str:
        return run_on_rank_zero(self._team, self.live, work)

    def _log(self, figures: Mapping[str, float]) -> None:
        if self._curves is not None:
            self._curves.add(self._state.step, figures)

    # --- a step

    def _step(self) -> None:
        """Take one optimiser step.

        Raises Diverged if loss or gradient is not finite or has exploded.
        """
        state, settings = self._state, self._settings
        begun = time.perf_counter()
        rows = self._rows()
        trained = sum(example.trained for example in rows)
        self._team.seed(settings.seed, state.step)
        own = self._worker.gradients(self._team.share(rows), trained)
        state.losses.append(self._team.all_reduce_sum(self._weights.values(), own))
        norm = float(clip_grad_norm_(self._weights.values(), settings.clip))
        check_divergence(state.losses, norm, [example.row.id for example in rows])
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate(state.step)
        self._optimiser.step()
        state.step += 1
        state.tokens += sum(len(example.ids) for example in rows)
        state.working += time.perf_counter() - begun

    def _rows(self) -> list[Encoded]:
        """The rows of the coming step."""
        settings = self._settings
        seed = settings.seed if settings.shuffle else None
        places = batch_indices(self._state.step, len(self._examples), settings.batch, seed)
        return [self._examples[place] for place in places]

    # --- validation

    def _validate(self, validate: Validate | None) -> None:
        """Validate the live model, and keep the weights where they are better than all before."""
        state = self._state

        def validated() -> str:
            if validate is not None:
                self._ask(validate)
            return f"{state.early_stopping.best_step} {state.early_stopping.stopped}"

        best, _, stopped = self._led(validated).partition(" ")
        state.early_stopping = replace(state.early_stopping, best_step=int(best), stopped=stopped)
        if int(best) == state.step and self._team.is_main:
            checkpoints.save_best(self._folder, state.step, self._tensors())

    def _ask(self, validate: Validate) -> None:
        state = self._state
        with eval_mode(self.live) as live:
            result = validate(live, state.step)
        state.validations.append({"step": state.step, **result.as_json()})
        # Facts stick late, and then fast: in its first half no training is given up.
        patience = self._settings.patience if 2 * state.step >= self._steps else 0
        state.early_stopping = state.early_stopping.update(state.step, result, patience)
        self._log({"validation/accuracy": result.objective})

    # --- checkpoints and files

    def _store(self) -> None:
        """Write a checkpoint."""
        state, worker = self._state, self._worker
        moments = {
            f"{kind} {name}": value.contiguous()
            for name, weight in self._weights.items()
            for kind, value in self._optimiser.state[weight].items()
        }
        random = {f"random {k}": v for k, v in random_states(worker.device).items()}
        stored = {
            "training": self._name(),
            "ways": self._settings.execution_settings(),
            "limits": asdict(worker.limits),
            "recomputes": worker.recomputes,
            "state": asdict(state),
        }
        saved = checkpoints.Checkpoint(state.step, self._tensors(), {**moments, **random}, stored)
        if self._team.is_main:
            checkpoints.save_checkpoint(self._folder, saved, state.early_stopping.best_step)

    def _take(self, checkpoint: checkpoints.Checkpoint) -> None:
        worker = self._worker
        self._set(checkpoint.weights)
        for key, value in checkpoint.optimiser.items():
            kind, _, name = key.partition(" ")
            if name in self._weights:  # one that has had no gradient yet has no moments
                weight = self._weights[name]
                # Fused optimisers walk through memory: moments lie in it as their weight does.
                place = torch.empty_like(weight if value.ndim else value, dtype=value.dtype)
                self._optimiser.state[weight][kind] = place.to(worker.device)
                self._optimiser.state[weight][kind].copy_(value)
        random = {
            k.split()[1]: v for k, v in checkpoint.optimiser.items() if k.startswith("random ")
        }
        set_random_states(worker.device, random)
        if checkpoint.state.get("ways") == self._settings.execution_settings():
            worker.resume(PackLimits(**checkpoint.state["limits"]), checkpoint.state["recomputes"])
        self._state = TrainerState.from_json(checkpoint.state["state"])

    def _set(self, values: checkpoints.Tensors) -> None:
        with torch.no_grad():
            for name, weight in self._weights.items():
                weight.copy_(values[name])

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {name: w.detach().contiguous() for name, w in self._weights.items()}

    def _write(self, folder: Path) -> str:
        state = self._state
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            self.live.save_pretrained(str(folder))
        curves = {
            "loss": state.losses,
            "learning_rate": [self._rate(step) for step in range(state.step)],
            "validation": state.validations,
            "best_step": state.early_stopping.best_step or state.step,
        }
        write_json(folder / _CURVES, curves)
        return "saved"

    def _name(self) -> dict[str, Any]:
        """Identity of the training: settings, rows and base model."""
        rows = hashlib.sha256()
        for example in self._examples:
            read = f" {example.read}" if example.read else ""
            rows.update(f"{example.ids} {example.prompt_length}{read}\n".encode())
        # The rate that is used: what stands for None may be another in another version.
        used = {**self._settings.result_settings(), "learning_rate": self._peak_rate}
        own = {**used, "rows": rows.hexdigest(), "model": self._base}
        return dict(json.loads(json.dumps(own)))

    def _check(self, stored: Mapping[str, Any]) -> None:
        own = self._name()
        other = sorted(key for key in {*own, *stored} if own.get(key) != stored.get(key))
        if other:
            names = ", ".join(f"`{key}`" for key in other)
            raise Misuse(
                f"the checkpoint in `{self._folder}` is of another training: {names} differ",
                "take the settings of before, or delete the folder to begin anew",
            )


def _planned(
    model: Any, settings: TrainingArguments, examples: Sequence[Encoded], processes: int
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
    sizes = model_sizes(model.config, settings, str(model.device)).shared(processes)
    return plan_memory(sizes, settings, longest, str(model.device), in_use(model))


def _agreed(
    team: ProcessGroup, device: torch.device, own: tuple[PackLimits, bool]
) -> tuple[PackLimits, bool]:
    """The smallest limits of all ranks."""
    limits, recomputes = own
    tokens = -team.all_reduce_max(-limits.tokens, device)
    return replace(limits, tokens=tokens), bool(team.all_reduce_max(recomputes, device))
