from __future__ import annotations

import math
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.prompts import PromptFormat
from benchmarks.results.domain_scores import evaluate_run
from benchmarks.runs.ask_letter_prior import OWN, VALIDATION, ask_letter_prior, prior_questions
from benchmarks.runs.runner import EvalJob, EvalSettings, execute_run, open_run, prepare_job
from benchmarks.runs.store import RunStore
from benchmarks.scoring.letter_prior import (
    LetterPrior,
    cyclic_orders,
    estimate_letter_prior,
    read_letter_prior,
)
from benchmarks.tasks.base import ALL_MODES, Task, data_digest
from domainlift.types import Question
from engines.base import Answer, Mode, Request
from tests.helpers import fake_engine as fake

HABIT = (0.02, 0.9, 0.05, 0.03)


class HabitEngine(fake.FakeEngine):
    """Knows a share of the questions, has a whim on each option, and says letters by habit."""

    def __init__(self, tasks: Sequence[Task], knows: float, habit: Sequence[float]) -> None:
        super().__init__()
        self._habit, self._knows = habit, knows
        self._right = {q.text: q.options[int(q.answer)] for task in tasks for q in task.questions}

    def _said(self, request: Request) -> Answer:
        text, *options = request.prompt.text.rsplit("\n\n", 1)[-1].splitlines()[:-1]
        known = random.Random(text).random() < self._knows
        logs = [
            math.log(self._habit[k])
            + random.Random(option[3:]).gauss(0, 0.2)
            + 2.0 * (known and option[3:] == self._right[text])
            for k, option in enumerate(options)
        ]
        total = math.log(sum(map(math.exp, logs)))
        return Answer(request.id, logprobs=tuple(value - total for value in logs))


def task(count: int, options: int = 4, name: str = "exam", draw: int = 0) -> Task:
    """Questions whose options say nothing, with the right one anywhere."""
    picked = random.Random(draw)
    questions = tuple(
        Question(
            f"{name}-{n}",
            "history",
            name,
            f"{name} {n}?",
            tuple(f"{name} {n} is {k}" for k in range(options)),
            picked.randrange(options),
        )
        for n in range(count)
    )
    digest = data_digest(questions)
    return Task(name, "history", questions, (), "", Mode.LETTER, ALL_MODES, 0, digest)


def job_of(made: Task, **settings: object) -> EvalJob:
    return prepare_job([made], EvalSettings("habits", **settings), fake.INFO)  # type: ignore[arg-type]


def scores(
    made: Task, knows: float, habit: Sequence[float], root: Path, **settings: object
) -> tuple[float, float | None]:
    """The raw and the debiased accuracy of a run, as its manifest and records say."""
    job, engine = job_of(made, **settings), HabitEngine([made], knows, habit)
    run = open_run(job, fake.INFO, RunStore(root))
    prior = ask_letter_prior(job, prior_questions(job, ()), engine, lambda _: None)
    assert prior is not None
    with run.writing():
        run.amend(letter_prior=prior.as_json())
    execute_run(job, engine, run, lambda _: None)
    overall = evaluate_run(run).overall
    assert overall.accuracy is not None
    return overall.accuracy, overall.accuracy_debiased


@pytest.mark.parametrize("options", [2, 3, 4, 5, 10])
def test_every_option_stands_at_every_letter_once(options: int) -> None:
    question = task(1, options).questions[0]
    orders = cyclic_orders(question)
    for place in range(options):
        assert {order.options[place] for order in orders} == set(question.options)
    assert len({order.id for order in orders}) == options
    assert {order.answer for order in orders} == {0}


@pytest.mark.parametrize("options", [2, 4, 10])
def test_the_prior_of_a_habit_is_found_whatever_is_known(options: int) -> None:
    draw = random.Random(options)
    weights = [draw.random() + 0.05 for _ in range(options)]
    habit = [weight / sum(weights) for weight in weights]
    made = task(40, options)
    job, engine = job_of(made), HabitEngine([made], 0.7, habit)
    prior = ask_letter_prior(job, prior_questions(job, ()), engine, lambda _: None)
    assert prior is not None
    assert [math.exp(value) for value in prior.log_prior[options]] == pytest.approx(habit, rel=1e-4)
    assert len(engine.asked) == prior.requests == 4 * options
    assert (prior.questions, prior.source) == (4, OWN)


def test_the_prior_does_not_know_the_labels() -> None:
    made = task(40)
    turned = tuple(replace(q, answer=(int(q.answer) + 1) % 4) for q in made.questions)
    engine = HabitEngine([made], 0.7, HABIT)
    priors = [
        ask_letter_prior(job, prior_questions(job, ()), engine, lambda _: None)
        for job in (job_of(made), job_of(replace(made, questions=turned)))
    ]
    assert priors[0] == priors[1] != None  # noqa: E711


def test_a_habit_without_knowledge_is_at_chance(tmp_path: Path) -> None:
    made = task(400, draw=3)
    raw, debiased = scores(made, 0.0, HABIT, tmp_path)
    says_b = sum(q.answer == 1 for q in made.questions) / 400
    assert raw == says_b
    assert debiased == pytest.approx(0.25, abs=0.07)


def test_knowledge_under_a_habit_comes_back(tmp_path: Path) -> None:
    raw, debiased = scores(task(400), 0.6, HABIT, tmp_path)
    assert raw < 0.35
    assert debiased is not None
    # Six in ten are known, and of the others one in four is right by luck.
    assert debiased == pytest.approx(0.7, abs=0.08)


def test_without_a_habit_nothing_changes(tmp_path: Path) -> None:
    raw, debiased = scores(task(200), 1.0, (0.25,) * 4, tmp_path)
    assert raw == debiased == 1.0


def test_a_form_that_divides_the_prior_out_scores_by_it_and_keeps_the_raw_score(
    tmp_path: Path,
) -> None:
    made = task(200)
    raw, debiased = scores(made, 0.6, HABIT, tmp_path)
    form = PromptFormat(Mode.LETTER, 0, chat=False, debias=True)
    both = scores(made, 0.6, HABIT, tmp_path, form=form)
    assert both == (debiased, debiased)
    runs = [evaluate_run(RunStore(tmp_path).get(name)) for name in RunStore(tmp_path).ids()]
    assert len(runs) == 2  # another form is another run
    assert {run.overall.accuracy_raw for run in runs} == {None, raw}


def test_letters_with_a_bound_only_are_left_as_they_are() -> None:
    from benchmarks.scoring.score import debiased_choice

    prior = LetterPrior({2: (math.log(0.9), math.log(0.1))}, 4, 8, OWN)
    logprobs = (math.log(0.8), math.log(0.2))
    assert debiased_choice(logprobs, 0, prior) == 1
    assert debiased_choice(logprobs, 1, prior) == 0
    assert debiased_choice((-1.0, -2.0, -3.0), 0, prior) == 0  # no prior for so many letters


@pytest.mark.parametrize(
    ("scored", "spare", "asked", "source"),
    [
        (10, 0, 4, OWN),
        (10, 50, 4, VALIDATION),
        (100, 50, 10, VALIDATION),
        (4000, 50, 16, VALIDATION),
        (3, 0, 3, OWN),
        (100, 2, 2, VALIDATION),
    ],
)
def test_a_tenth_of_the_number_is_asked_of_validation_questions_first(
    scored: int, spare: int, asked: int, source: str
) -> None:
    made, other = task(scored), task(spare, draw=1)
    validation = [replace(q, id=f"spare-{q.id}") for q in other.questions]
    job = job_of(made)
    chosen = prior_questions(job, validation)
    assert len(chosen) == asked
    assert all(q.id.startswith("spare") for q in chosen) == (source == VALIDATION)


def test_cloze_needs_no_prior() -> None:
    assert prior_questions(job_of(task(10), mode=Mode.CLOZE), ()) == []


def test_a_prior_is_stored_as_it_is_subtracted() -> None:
    prior = estimate_letter_prior([(-0.1, -2.5), (-3.0, -0.2), (-1.0, -2.0, -3.0)], 2, OWN)
    assert prior is not None
    assert read_letter_prior(prior.as_json()) == prior
    assert read_letter_prior({}) is None
    assert estimate_letter_prior([], 0, OWN) is None
    for values in prior.log_prior.values():
        assert sum(map(math.exp, values)) == pytest.approx(1, abs=1e-5)
