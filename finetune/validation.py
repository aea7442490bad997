"""Validation during training: accuracy on target and protected domains, and the forgetting test.

The adapter in training answers validation questions through the engine that holds its model, so
an accuracy is what `bench run` would report. Domains without such questions are validated by the
probability of their validation rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from benchmarks.results.pairing import paired_record_changes
from benchmarks.runs.evaluate_task import evaluate_task
from benchmarks.runs.runner import EvalJob, EvalSettings, prepare_job
from benchmarks.runs.store import Record
from benchmarks.tasks.base import Task
from domainlift.stats.paired import Paired, sign_test
from domainlift.types import Question, Treatment
from engines.base import Engine
from finetune.data.replay import sample_tasks
from finetune.data.row_losses import mean_token_probability
from finetune.data.rows import Row
from finetune.jobs import TrainingJob, validation_rows
from finetune.training.early_stopping import ValidationResult

#: Validation questions or rows per domain at most: they are to take a small part of a training.
MAX_QUESTIONS = 200
#: Of all protected domains together, and of each of them at least.
MAX_PROTECTED, FEWEST_QUESTIONS = 1_000, 40
#: A protected domain has regressed where so many losses against so few gains have a probability
#: below this. It is tested again and again during a training, so 0.05 would stop every second one.
FORGETTING_ALPHA = 0.01


def open_validator(job: TrainingJob, engine: Engine) -> Validator | None:
    """Validate the base model; None where there is nothing to validate learned domains on."""
    rows = validation_rows(job, MAX_QUESTIONS)
    monitor = forgetting_monitor(job, engine)
    base = monitor.base if monitor is not None else {}
    if not rows and not any(name in base for name in job.learned):
        return None
    return Validator(engine, job.learned, monitor, rows)


class Validator:
    """Validates the model in an engine again and again, against its first state."""

    def __init__(
        self,
        engine: Engine,
        learned: Sequence[str],
        monitor: ForgettingMonitor | None,
        rows: Mapping[str, Sequence[Row]],
    ) -> None:
        self._engine = engine
        self._learned = learned
        self._monitor = monitor
        self._rows = rows
        self._base = self._probabilities()

    @property
    def missed(self) -> dict[str, list[str]]:
        """By domain the questions, with their answers, that the base model gets wrong."""
        return self._monitor.missed if self._monitor is not None else {}

    def evaluate(self) -> ValidationResult:
        """Validate the model as it is now.

        The objective is the mean over learned domains, plus the change of each protected one.
        """
        probabilities = self._probabilities()
        details = self._row_details(probabilities)
        if self._monitor is None:
            return ValidationResult(_mean(probabilities.values()), (), details, probabilities)
        now = self._monitor.evaluate()
        scores = {**now.accuracy, **probabilities}
        learned = [scores[name] for name in self._learned if name in scores]
        protected = [
            change.difference
            for name, change in now.changes.items()
            if name and name not in self._learned
        ]
        details = {**self._question_details(now), **details}
        return ValidationResult(_mean(learned) + sum(protected), now.regressed, details, scores)

    def _probabilities(self) -> dict[str, float]:
        return {
            name: mean_token_probability(rows, self._engine) for name, rows in self._rows.items()
        }

    def _question_details(self, now: DomainChanges) -> dict[str, Any]:
        base = self._monitor.base if self._monitor is not None else {}
        return {
            name: {
                "base": base.get(name),
                "adapter": now.accuracy.get(name),
                "interval": [change.interval.low, change.interval.high],
                "n": change.n,
                "gains": change.gains,
                "losses": change.losses,
            }
            for name, change in now.changes.items()
            if name
        }

    def _row_details(self, probabilities: Mapping[str, float]) -> dict[str, Any]:
        """Probabilities have no interval: a row is neither right nor wrong."""
        return {
            name: {
                "base": self._base[name],
                "adapter": value,
                "interval": None,
                "n": len(self._rows[name]),
                "measure": "probability per token",
            }
            for name, value in probabilities.items()
        }


@dataclass(frozen=True)
class DomainChanges:
    """Paired changes against the base model and accuracies, by domain."""

    changes: Mapping[str, Paired]
    accuracy: Mapping[str, float]
    regressed: tuple[str, ...]


class ForgettingMonitor:
    """Paired test of protected domains against the base model's answers to the same questions."""

    def __init__(self, job: EvalJob, engine: Engine, protected: Collection[str]) -> None:
        self._job = job
        self._engine = engine
        self._protected = frozenset(protected)
        self._questions = {question.id: question for question in job.questions}
        self._base = self._evaluate()

    @property
    def base(self) -> Mapping[str, float]:
        """The base model's accuracy by domain."""
        return _accuracies(self._base)

    @property
    def missed(self) -> dict[str, list[str]]:
        """By domain the questions, with their answers, that the base model gets wrong."""
        missed: dict[str, list[str]] = {}
        for record in self._base:
            if record.correct is False:
                text = question_and_answer(self._questions[record.id])
                missed.setdefault(record.domain, []).append(text)
        return missed

    def evaluate(self) -> DomainChanges:
        """Ask all questions again, and compare."""
        now = self._evaluate()
        changes = paired_record_changes(self._base, now, self._questions)
        regressed = tuple(
            domain
            for domain, change in changes.items()
            if domain in self._protected
            and sign_test(change.losses, change.gains) < FORGETTING_ALPHA
        )
        return DomainChanges(changes, _accuracies(now), regressed)

    def _evaluate(self) -> list[Record]:
        self._engine.close()  # the model may have changed since, and so may its cached prefixes
        records: list[Record] = []
        for task in self._job.tasks:
            own = [q for q in self._job.questions if q.task == task.name]
            pairs = [(question, Treatment()) for question in own]
            records += evaluate_task(task, self._job.formats[task.name], pairs, self._engine)
        return records


def forgetting_monitor(job: TrainingJob, engine: Engine) -> ForgettingMonitor | None:
    """A monitor of learned and protected domains; None without any validation question."""
    seed = job.recipe.seed
    each = min(MAX_QUESTIONS, max(FEWEST_QUESTIONS, MAX_PROTECTED // max(1, len(job.protected))))
    most = dict.fromkeys(job.protected, each) | dict.fromkeys(job.learned, MAX_QUESTIONS)
    tasks = [
        task
        for name in (*job.learned, *job.protected)
        for task in _sampled(job.tasks(name, "validation"), seed, most[name])
    ]
    if not tasks:
        return None
    evaluation = prepare_job(tasks, EvalSettings("validation", seed=seed), engine.info)
    return ForgettingMonitor(evaluation, engine, job.protected)


def question_and_answer(question: Question) -> str:
    """The text of a question and its right answer."""
    answer = question.answer
    return f"{question.text} {answer if isinstance(answer, str) else question.options[answer]}"


def _sampled(tasks: Sequence[Task], seed: int, most: int) -> list[Task]:
    return [
        replace(task, questions=tuple(questions))
        for task, questions in sample_tasks(tasks, most, seed)
    ]


def _accuracies(records: Sequence[Record]) -> dict[str, float]:
    """The share of right answers by domain; unanswered questions are not counted."""
    by_domain: dict[str, list[bool]] = {}
    for record in records:
        if record.correct is not None:
            by_domain.setdefault(record.domain, []).append(record.correct)
    return {domain: _mean(correct) for domain, correct in sorted(by_domain.items())}


def _mean(values: Collection[float]) -> float:
    return sum(values) / len(values) if values else 0.0
