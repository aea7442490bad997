"""Trainer of one adapter: optimiser steps, validation, checkpoints and curves."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch
from torch.nn.utils import clip_grad_norm_

from domainlift.errors import Misuse
from domainlift.files import write_json
from finetune.adapters.methods import weights_fingerprint
from finetune.memory.estimate import peak_bytes
from finetune.training import checkpoints
from finetune.training.divergence import check_divergence
from finetune.training.early_stopping import EarlyStopping, Validate
from finetune.training.gradients import GradientWorker, eval_mode, random_states, set_random_states
from finetune.training.packing import PackLimits
from finetune.training.schedule import batch_indices, rate_at
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import Encoded, truncated
from finetune.training.trackers import Curves
from finetune.training.train_result import TrainResult

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


@dataclass(frozen=True)
class BaseInfo:
    """Base model of a training: fingerprint of its weights, dtype, highest learning rate."""

    base: str
    dtype: torch.dtype
    rate: float

    @classmethod
    def of(cls, model: Any, settings: TrainingArguments) -> BaseInfo:
        """Look at a model that has no adapter yet."""
        rate = settings.rate(model.config.get_text_config().hidden_size)
        return cls(weights_fingerprint(model), model.dtype, rate)


class AdapterTrainer:
    """One adapter's training under way; others compute its gradients."""

    def __init__(
        self,
        examples: Sequence[Encoded],
        settings: TrainingArguments,
        folder: Path,
        weights: Mapping[str, torch.nn.Parameter],
        start: BaseInfo,
        *,
        writes: bool = True,
    ) -> None:
        """Of several processes one `writes`."""
        self.examples = examples
        self.settings = settings
        self.folder = folder
        self.weights = weights
        self.steps = settings.total_steps(len(examples))
        self.state = TrainerState()
        self._curves: Curves | None = None
        self._writes = writes
        self._start = start
        self._optimiser = torch.optim.AdamW(
            weights.values(),
            weight_decay=settings.weight_decay,
            fused=True,
        )

    @property
    def ended(self) -> bool:
        """Whether all steps are taken, or validation has ended it."""
        return self.state.step >= self.steps or bool(self.state.early_stopping.stopped)

    @property
    def speed(self) -> float:
        """Tokens per second so far, without validation."""
        return self.state.tokens / max(self.state.working, 1e-9)

    def due(self, every: int) -> bool:
        """Whether the step is a multiple of `every` or the last one; never for 0."""
        return every > 0 and (self.state.step % every == 0 or self.state.step == self.steps)

    def rows(self) -> list[Encoded]:
        """The rows of the coming step."""
        settings = self.settings
        seed = settings.seed if settings.shuffle else None
        places = batch_indices(self.state.step, len(self.examples), settings.batch, seed)
        return [self.examples[place] for place in places]

    def step(self, rows: Sequence[Encoded], loss: float) -> None:
        """Take one optimiser step.

        Raises Diverged if loss or gradient is not finite or has exploded.
        """
        state, settings = self.state, self.settings
        state.losses.append(loss)
        norm = float(clip_grad_norm_(self.weights.values(), settings.clip))
        check_divergence(state.losses, norm, [example.row.id for example in rows])
        for group in self._optimiser.param_groups:
            group["lr"] = self._rate(state.step)
        self._optimiser.step()
        state.step += 1
        state.tokens += sum(len(example.ids) for example in rows)

    def validate(self, validate: Validate, model: Any) -> None:
        """Validate the live model."""
        state = self.state
        with eval_mode(model) as live:
            result = validate(live, state.step)
        state.validations.append({"step": state.step, **result.as_json()})
        # Facts stick late, and then fast: in its first half no training is given up.
        patience = self.settings.patience if 2 * state.step >= self.steps else 0
        state.early_stopping = state.early_stopping.update(state.step, result, patience)
        self._log({"validation/accuracy": result.objective})

    def keep_best(self) -> None:
        """Keep the weights where they validated better than all before."""
        step = self.state.step
        if self.state.early_stopping.best_step == step:
            weights = self._tensors()
            if self._writes:
                checkpoints.save_best(self.folder, step, weights)

    def begin_log(self) -> None:
        """Go on with the curves."""
        if self._writes:
            self._curves = Curves(self.settings.track, self.folder, self.state.step)

    def log(self) -> None:
        """Put the last step into the curves."""
        self._log({"train/loss": self.state.losses[-1], "train/tokens_per_second": self.speed})

    def close(self) -> None:
        """End the curves."""
        if self._curves is not None:
            self._curves.close()

    def store(self, worker: GradientWorker) -> None:
        """Write a checkpoint."""
        moments = {
            f"{kind} {name}": value.contiguous()
            for name, weight in self.weights.items()
            for kind, value in self._optimiser.state[weight].items()
        }
        random = {f"random {k}": v for k, v in random_states(worker.device).items()}
        state = {
            "training": self._name(),
            "ways": self.settings.execution_settings(),
            "limits": asdict(worker.limits),
            "recomputes": worker.recomputes,
            "state": asdict(self.state),
        }
        saved = checkpoints.Checkpoint(
            self.state.step, self._tensors(), {**moments, **random}, state
        )
        if self._writes:
            checkpoints.save_checkpoint(self.folder, saved, self.state.early_stopping.best_step)

    def resume(self, worker: GradientWorker) -> None:
        """Go to the last checkpoint, where one is; Misuse where it is of another training."""
        checkpoint = checkpoints.last_checkpoint(self.folder)
        if checkpoint is None:
            return
        self._check(checkpoint.state.get("training", {}))
        try:
            self._take(checkpoint, worker)
        except (KeyError, TypeError, ValueError, RuntimeError, AttributeError) as error:
            raise checkpoints.damaged_checkpoint(self.folder, error) from error

    def to_best(self) -> None:
        """Take the weights that validated best."""
        best = self.state.early_stopping.best_step
        if best and best != self.state.step:
            self._set(checkpoints.load_best(self.folder, best))

    def write_curves(self, folder: Path) -> None:
        """Write losses, rates and validations."""
        state = self.state
        curves = {
            "loss": state.losses,
            "learning_rate": [self._rate(step) for step in range(state.step)],
            "validation": state.validations,
            "best_step": state.early_stopping.best_step or state.step,
        }
        write_json(folder / _CURVES, curves)

    def trained(self, worker: GradientWorker) -> TrainResult:
        """The outcome."""
        state = self.state
        return TrainResult(
            steps=state.step,
            tokens=state.tokens,
            tokens_per_second=self.speed,
            peak_bytes=peak_bytes(worker.device),
            seconds=state.seconds,
            losses=tuple(state.losses),
            best_step=state.early_stopping.best_step or state.step,
            stopped=state.early_stopping.stopped or "done",
            regressed=tuple(state.early_stopping.regressed),
            validations=tuple(state.validations),
            truncated=tuple(truncated(self.examples)),
            micro_batch=worker.limits.tokens,
            checkpointing=worker.recomputes,
        )

    def _rate(self, step: int) -> float:
        return rate_at(step, self.steps, self.settings.warm_up, self._start.rate)

    def _take(self, checkpoint: checkpoints.Checkpoint, worker: GradientWorker) -> None:
        self._set(checkpoint.weights)
        for key, value in checkpoint.optimiser.items():
            kind, _, name = key.partition(" ")
            if name in self.weights:  # one that has had no gradient yet has no moments
                weight = self.weights[name]
                # Fused optimisers walk through memory: moments lie in it as their weight does.
                place = torch.empty_like(weight if value.ndim else value, dtype=value.dtype)
                self._optimiser.state[weight][kind] = place.to(worker.device)
                self._optimiser.state[weight][kind].copy_(value)
        random = {
            k.split()[1]: v for k, v in checkpoint.optimiser.items() if k.startswith("random ")
        }
        set_random_states(worker.device, random)
        if checkpoint.state.get("ways") == self.settings.execution_settings():
            worker.resume(PackLimits(**checkpoint.state["limits"]), checkpoint.state["recomputes"])
        self.state = TrainerState.from_json(checkpoint.state["state"])

    def _set(self, values: checkpoints.Tensors) -> None:
        with torch.no_grad():
            for name, weight in self.weights.items():
                weight.copy_(values[name])

    def _tensors(self) -> dict[str, torch.Tensor]:
        return {name: w.detach().contiguous() for name, w in self.weights.items()}

    def _log(self, figures: Mapping[str, float]) -> None:
        if self._curves is not None:
            self._curves.add(self.state.step, figures)

    def _name(self) -> dict[str, Any]:
        """Identity of the training: settings, rows and base model."""
        rows = hashlib.sha256()
        for example in self.examples:
            read = f" {example.read}" if example.read else ""
            rows.update(f"{example.ids} {example.prompt_length}{read}\n".encode())
        # The rate that is used: what stands for None may be another in another version.
        used = {**self.settings.result_settings(), "learning_rate": self._start.rate}
        own = {**used, "rows": rows.hexdigest(), "model": self._start.base}
        return dict(json.loads(json.dumps(own)))

    def _check(self, stored: Mapping[str, Any]) -> None:
        own = self._name()
        other = sorted(key for key in {*own, *stored} if own.get(key) != stored.get(key))
        if other:
            names = ", ".join(f"`{key}`" for key in other)
            raise Misuse(
                f"the checkpoint in `{self.folder}` is of another training: {names} differ",
                "take the settings of before, or delete the folder to begin anew",
            )
