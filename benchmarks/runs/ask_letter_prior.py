"""Letter prior of a run: a few questions, asked with their options in every cyclic order."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing

from benchmarks.runs.evaluate_task import evaluate_task
from benchmarks.runs.runner import EvalJob, OnRecord
from benchmarks.scoring.letter_prior import (
    LEAST_QUESTIONS,
    MOST_QUESTIONS,
    LetterPrior,
    cyclic_orders,
    estimate_letter_prior,
)
from domainlift.sampling import sample_evenly
from domainlift.types import Question, Treatment
from engines.base import Engine, Mode, Status

VALIDATION, OWN = "validation questions", "scored questions"


def prior_questions(job: EvalJob, validation: Sequence[Question]) -> list[Question]:
    """Choose the questions on which the prior of a job is estimated; [] where it needs none.

    For each number of options a tenth of the scored questions' number, 4 to 16, of the validation
    questions with so many options; of the scored ones, whose labels are not looked at either,
    where there are none.
    """
    scored, spare = _by_option_count(job, job.questions), _by_option_count(job, validation)
    chosen: list[Question] = []
    for count, questions in scored.items():
        size = min(MOST_QUESTIONS, max(LEAST_QUESTIONS, math.ceil(len(questions) / 10)))
        pool = spare.get(count, questions)
        chosen += sample_evenly(pool, size, 3, name=lambda q: q.id, kind=lambda q: q.domain)
    return chosen


def ask_letter_prior(
    job: EvalJob, questions: Sequence[Question], engine: Engine, notify: OnRecord
) -> LetterPrior | None:
    """Ask these questions with their options in every cyclic order; None without an answer.

    One that a server refuses in its own order (`ID~0`) is not asked in the others. Answers with
    letters that have only a bound are left out.
    """
    answers = list(_answers(job, questions, engine, notify))
    scored = {question.id for question in job.questions}
    own = Counter(question.id in scored for question in questions)
    source = " and ".join(name for name, n in ((VALIDATION, own[False]), (OWN, own[True])) if n)
    return estimate_letter_prior(answers, len(questions), source)


def _answers(
    job: EvalJob, questions: Sequence[Question], engine: Engine, notify: OnRecord
) -> Iterator[tuple[float, ...]]:
    for task in job.tasks:
        orders = [cyclic_orders(q) for q in questions if q.task == task.name]
        refused: set[str] = set()
        for part in ([own[:1] for own in orders], [own[1:] for own in orders]):
            treated = [(q, Treatment()) for own in part for q in own if _name(q.id) not in refused]
            with closing(evaluate_task(task, job.formats[task.name], treated, engine)) as records:
                for record in records:
                    notify(record)
                    if record.refused:
                        refused.add(_name(record.id))
                    if record.status == Status.OK and record.logprobs and not record.n_bounded:
                        yield record.logprobs


def _name(id_: str) -> str:
    return id_.rpartition("~")[0]


def _by_option_count(job: EvalJob, questions: Sequence[Question]) -> Mapping[int, list[Question]]:
    """Questions that are scored by letters, by their number of options."""
    by_count: dict[int, list[Question]] = defaultdict(list)
    for question in questions:
        form = job.formats.get(question.task)
        if form is not None and form.mode is Mode.LETTER:
            by_count[len(question.options)].append(question)
    return by_count
