"""How a model in training stands: what it has learned, and what it has lost."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.replay_questions import forgetting_monitor, mean_token_probability

if TYPE_CHECKING:
    from engines.base import Engine
    from finetune.data.rows import Row
    from finetune.forgetting import DomainStanding, ForgettingMonitor
    from finetune.jobs import TrainingJob
    from finetune.replay_questions import TrainingDomains


@dataclass(frozen=True)
class ValidationScores:
    """A look at the model.

    `scores` are accuracies by domain, or how likely rows are where a domain has no validation
    questions. `objective` is the learned domains' mean, plus what each strength gained or lost.
    `told` says the same beside the base model, for the record.
    """

    scores: Mapping[str, float]
    objective: float
    regressed: tuple[str, ...]
    details: Mapping[str, Any]


class Validator:
    """Looks at a model again and again, and remembers how it began."""

    def __init__(
        self,
        engine: Engine,
        learned: Sequence[str],
        watch: ForgettingMonitor | None,
        rows: Mapping[str, Sequence[Row]],
    ) -> None:
        self._engine = engine
        self._learned = learned
        self._watch = watch
        self._rows = rows
        self._began = self._likely()

    def evaluate(self) -> ValidationScores:
        """Ask the model as it is now."""
        likely = self._likely()
        if self._watch is None:
            return ValidationScores(likely, _mean(likely.values()), (), self._rows_told(likely))
        standing = self._watch.evaluate()
        scores = {**standing.accuracy, **likely}
        learned = [scores[name] for name in self._learned if name in scores]
        kept = [c.difference for n, c in standing.changes.items() if n and n not in self._learned]
        told = {**self._questions_told(standing), **self._rows_told(likely)}
        return ValidationScores(scores, _mean(learned) + sum(kept), standing.regressed, told)

    def _likely(self) -> dict[str, float]:
        return {
            name: mean_token_probability(rows, self._engine) for name, rows in self._rows.items()
        }

    def _questions_told(self, standing: DomainStanding) -> dict[str, Any]:
        base = self._watch.base if self._watch is not None else {}
        return {
            name: {
                "base": base.get(name),
                "adapter": standing.accuracy.get(name),
                "interval": [change.interval.low, change.interval.high],
                "n": change.n,
                "gains": change.gains,
                "losses": change.losses,
            }
            for name, change in standing.changes.items()
            if name
        }

    def _rows_told(self, likely: Mapping[str, float]) -> dict[str, Any]:
        """Of likelihoods there is no interval: they are not right or wrong."""
        return {
            name: {
                "base": self._began[name],
                "adapter": value,
                "interval": None,
                "n": len(self._rows[name]),
                "measure": "probability per token",
            }
            for name, value in likely.items()
        }


def open_validator(wish: TrainingJob, around: TrainingDomains, engine: Engine) -> Validator | None:
    """Look at the base model; None where there is nothing to judge what it learns by."""
    from finetune.jobs import validation_rows

    rows = validation_rows(wish, around)
    watch = forgetting_monitor(around, engine, wish.recipe.seed)
    asked = watch.base if watch is not None else {}
    if not rows and not any(name in asked for name in around.learned):
        return None
    return Validator(engine, around.learned, watch, rows)


def _mean(values: Collection[float]) -> float:
    return sum(values) / len(values) if values else 0.0
