"""What validation says during training, and when it ends it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any


@dataclass(frozen=True)
class Validation:
    """How the live model does on validation questions.

    `accuracy` is the domain's. `fallen` names the protected domains that are significantly below
    the base model, as paired statistics say. `detail` is kept with the curves (JSON).
    """

    accuracy: float
    fallen: tuple[str, ...] = ()
    detail: Mapping[str, Any] = field(default_factory=dict)


#: Called with the live model in eval mode, whose attention is the one it was loaded with, and the
#: number of steps that it has made.
Validate = Callable[[Any, int], Validation]


@dataclass(frozen=True)
class EarlyStopping:
    """What has been seen so far: the best step without a fallen domain, and those since.

    `stopped` is "" while training may go on, else `patience` or `fallen`.
    """

    best: float | None = None
    best_step: int = 0
    since: int = 0
    regressed: tuple[str, ...] = ()
    stopped: str = ""

    def seen(self, step: int, found: Validation, patience: int) -> EarlyStopping:
        """The watch after one more validation.

        A fallen domain ends the training and its weights are never the best. Of equal accuracies
        the first counts: what came later was trained on for nothing.
        """
        if found.fallen:
            return replace(self, regressed=found.fallen, stopped="fallen")
        if self.best is None or found.accuracy > self.best:
            return replace(self, best=found.accuracy, best_step=step, since=0)
        since = self.since + 1
        return replace(self, since=since, stopped="patience" if 0 < patience <= since else "")
