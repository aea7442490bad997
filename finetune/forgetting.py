"""What a model in training still knows: the same questions before and while it learns."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.results.pairing import paired_record_changes
from benchmarks.runs.evaluate_task import evaluate_task
from benchmarks.runs.runner import EvalJob
from benchmarks.runs.store import Record
from domainlift.stats.paired import Paired, sign_test
from domainlift.types import Question, Treatment
from engines.base import Engine

#: A protected domain has fallen where so many losses against so few gains have a probability
#: below this. It is asked again and again during a training, so 0.05 would stop every second one.
FORGETTING_ALPHA = 0.01


@dataclass(frozen=True)
class DomainStanding:
    """How a model stands against its own beginning, by domain."""

    changes: Mapping[str, Paired]
    accuracy: Mapping[str, float]
    regressed: tuple[str, ...]


class ForgettingMonitor:
    """Remembers what the base model answered, and compares later answers with that."""

    def __init__(self, job: EvalJob, engine: Engine, protected: Collection[str]) -> None:
        self._job = job
        self._engine = engine
        self._protected = frozenset(protected)
        self._questions: dict[str, Question] = {q.id: q for q in job.questions}
        self._base = self._ask()

    @property
    def base(self) -> Mapping[str, float]:
        """The base model's accuracy by domain."""
        return _accuracies(self._base)

    def evaluate(self) -> DomainStanding:
        """Ask everything again; the model may have changed since, and so may its cached prefix."""
        now = self._ask()
        changes = paired_record_changes(self._base, now, self._questions)
        fallen = tuple(
            domain
            for domain, change in changes.items()
            if domain in self._protected
            and sign_test(change.losses, change.gains) < FORGETTING_ALPHA
        )
        return DomainStanding(changes, _accuracies(now), fallen)

    def _ask(self) -> list[Record]:
        self._engine.close()
        records: list[Record] = []
        for task in self._job.tasks:
            own = [q for q in self._job.questions if q.task == task.name]
            treated = [(question, Treatment()) for question in own]
            records += evaluate_task(task, self._job.formats[task.name], treated, self._engine)
        return records


def _accuracies(records: Sequence[Record]) -> dict[str, float]:
    """Shares of right answers among those that were answered."""
    by_domain: dict[str, list[bool]] = {}
    for record in records:
        if record.correct is not None:
            by_domain.setdefault(record.domain, []).append(record.correct)
    return {domain: sum(found) / len(found) for domain, found in sorted(by_domain.items())}
