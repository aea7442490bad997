"""Validation during training: accuracy on target and protected domains, and the forgetting test.

The adapter in training answers validation questions through the engine that holds its model, so
an accuracy is what `bench run` would report. Domains without such questions are validated by the
probability of their validation rows.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.results.pairing import paired_record_changes
from benchmarks.runs.evaluate_task import evaluate_task
from benchmarks.runs.runner import EvalJob, EvalSettings, prepare_job
from benchmarks.runs.store import Record
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
    validator = Validator(engine, job.learned, job.protected, _questions(job, engine), rows)
    return validator if any(name in validator.base for name in job.learned) else None


class Validator:
    """Validates the model in an engine again and again, against its first state.

    Domains are validated on the questions of `job`, and those without any on `rows`.
    """

    def __init__(
        self,
        engine: Engine,
        learned: Collection[str],
        protected: Collection[str],
        job: EvalJob | None,
        rows: Mapping[str, Sequence[Row]],
    ) -> None:
        self._engine = engine
        self._learned = learned
        self._protected = protected
        self._job = job
        self._rows = rows
        self._questions = {q.id: q for q in job.questions} if job is not None else {}
        self._records = self.latest = self._ask()
        #: The base model's accuracy, or probability per token, by domain.
        self.base = {**_accuracies(self._records), **self._probabilities()}

    @property
    def missed(self) -> dict[str, list[str]]:
        """By domain the questions, with their answers, that the base model gets wrong."""
        missed: dict[str, list[str]] = {}
        for record in self._records:
            if record.correct is False:
                text = question_and_answer(self._questions[record.id])
                missed.setdefault(record.domain, []).append(text)
        return missed

    def evaluate(self) -> ValidationResult:
        """Validate the model as it is now.

        The objective is the mean over learned domains, plus the change of each protected one.
        """
        records = self.latest = self._ask()
        scores = {**_accuracies(records), **self._probabilities()}
        changes = self._changes(self._records)
        others = [change for name, change in changes.items() if name not in self._learned]
        return ValidationResult(
            _mean([scores[name] for name in self._learned if name in scores])
            + sum(change.difference for change in others),
            tuple(name for name in _fallen(changes) if name in self._protected),
            {name: self._details(name, scores, changes) for name in (*changes, *self._rows)},
            scores,
        )

    def worse_than(self, before: Sequence[Record]) -> tuple[str, ...]:
        """The domains that fell from those records to the latest ones, by the same test."""
        return tuple(_fallen(self._changes(before)))

    def _changes(self, before: Sequence[Record]) -> dict[str, Paired]:
        changes = paired_record_changes(before, self.latest, self._questions)
        changes.pop("", None)  # of all domains together
        return changes

    def _details(
        self, name: str, scores: Mapping[str, float], changes: Mapping[str, Paired]
    ) -> dict[str, Any]:
        """Probabilities have no interval: a row is neither right nor wrong."""
        sides = {"base": self.base.get(name), "adapter": scores.get(name)}
        if name in self._rows:
            n = len(self._rows[name])
            return {**sides, "interval": None, "n": n, "measure": "probability per token"}
        change = changes[name]
        interval = list(change.interval)
        counts = {"n": change.n, "gains": change.gains, "losses": change.losses}
        return {**sides, "interval": interval, **counts}

    def _probabilities(self) -> dict[str, float]:
        return {
            name: mean_token_probability(rows, self._engine) for name, rows in self._rows.items()
        }

    def _ask(self) -> list[Record]:
        if self._job is None:
            return []
        self._engine.close()  # the model may have changed since, and so may its cached prefixes
        records: list[Record] = []
        for task in self._job.tasks:
            own = [q for q in self._job.questions if q.task == task.name]
            pairs = [(question, Treatment()) for question in own]
            records += evaluate_task(task, self._job.formats[task.name], pairs, self._engine)
        return records


def _questions(job: TrainingJob, engine: Engine) -> EvalJob | None:
    """The validation questions of learned and protected domains; None without any."""
    seed = job.recipe.seed
    each = min(MAX_QUESTIONS, max(FEWEST_QUESTIONS, MAX_PROTECTED // max(1, len(job.protected))))
    most = dict.fromkeys(job.protected, each) | dict.fromkeys(job.learned, MAX_QUESTIONS)
    tasks = [
        replace(task, questions=tuple(questions))
        for name in (*job.learned, *job.protected)
        for task, questions in sample_tasks(job.tasks(name, "validation"), most[name], seed)
    ]
    return prepare_job(tasks, EvalSettings("validation", seed=seed), engine.info) if tasks else None


def question_and_answer(question: Question) -> str:
    """The text of a question and its right answer."""
    return f"{question.text} {question.answer_text}"


def _fallen(changes: Mapping[str, Paired]) -> list[str]:
    """The domains that fell significantly."""
    return [
        name
        for name, change in changes.items()
        if sign_test(change.losses, change.gains) < FORGETTING_ALPHA
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
