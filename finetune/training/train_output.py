"""Progress and output of a training."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class TrainingProgress:
    """Progress of a training; `tokens_per_second` leaves validation out."""

    step: int
    steps: int
    loss: float
    tokens_per_second: float


@dataclass(frozen=True)
class TrainOutput:
    """Output of a training, as transformers calls it.

    `tokens` went through the model, `seconds` include validation and the time before an
    interruption. The saved weights are those of `best_step`. `stopped` is `done`, `patience` or
    `fallen` (a protected domain regressed); with `fallen` and no validation before, the saved
    weights are the last ones. `truncated` are ids of rows whose prompts lost their beginning.
    """

    steps: int
    tokens: int
    tokens_per_second: float
    peak_bytes: int
    seconds: float
    losses: tuple[float, ...]
    best_step: int
    stopped: str
    regressed: tuple[str, ...] = ()
    validations: tuple[dict[str, Any], ...] = ()
    truncated: tuple[str, ...] = ()
    micro_batch: int = 0
    checkpointing: bool = False


#: Called after every step.
OnProgress = Callable[[TrainingProgress], None]
