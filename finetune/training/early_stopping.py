"""Early stopping: the best validation so far, and when validation ends a training."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class ValidationResult:
    """Validation of the live model.

    `objective` is what training maximises. `regressed` names the protected domains that are
    significantly below the base model. `details` is stored with the curves (JSON); `scores` are
    accuracies by domain, or token probabilities where a domain has no validation questions.
    """

    objective: float
    regressed: tuple[str, ...] = ()
    details: Mapping[str, Any] = field(default_factory=dict)
    scores: Mapping[str, float] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The entry of `curves.json`, but for its step."""
        return {
            "accuracy": self.objective,
            "fallen": list(self.regressed),
            "detail": dict(self.details),
        }


#: Called with the live model in eval mode, whose attention is the one it was loaded with, and the
#: number of steps taken. What it raises ends the training.
Validate = Callable[[Any, int], ValidationResult]


@dataclass(frozen=True)
class EarlyStopping:
    """The best step without a regressed domain, and the number of validations since.

    `stopped` is "" while training may go on, else `patience` or `fallen`.
    """

    best: float | None = None
    best_step: int = 0
    since: int = 0
    regressed: Sequence[str] = ()
    stopped: str = ""

    def update(self, step: int, result: ValidationResult, patience: int) -> EarlyStopping:
        """The state after one more validation.

        A regressed domain ends the training and its weights are never the best. Of equal
        objectives the first counts: what came later was trained on for nothing.
        """
        if result.regressed:
            return replace(self, regressed=result.regressed, stopped="fallen")
        if self.best is None or result.objective > self.best:
            return replace(self, best=result.objective, best_step=step, since=0)
        since = self.since + 1
        return replace(self, since=since, stopped="patience" if 0 < patience <= since else "")
