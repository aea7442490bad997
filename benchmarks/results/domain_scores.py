"""Scores of a run by domain: accuracy, interval, verdict, and counts of faults."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from benchmarks.results.error_reasons import count_reasons, error_reason
from benchmarks.results.letters import LetterCounts, count_record_letters, lettered_tasks
from benchmarks.results.metric_scores import MetricScore, score_metrics
from benchmarks.runs.store import Record, Run, RunManifest
from benchmarks.scoring.forms import RunForm, form_of
from benchmarks.scoring.letter_prior import LetterPrior, read_letter_prior
from benchmarks.scoring.score import debiased_choice
from domainlift.stats.binomial import SUSPICIOUS, below_chance
from domainlift.stats.intervals import (
    Interval,
    Verdict,
    accuracy_interval,
    design_effect,
    questions_to_settle,
    verdict,
)
from domainlift.types import Question
from engines.base import Status

DEFAULT_TARGET = 0.60
_SAMPLES = 3


@dataclass(frozen=True)
class DomainScore:
    """The score of one domain.

    `n` counts the questions that were answered: ok, unparsed and cut off. Truncated ones and errors
    are counted apart. `chance` is the accuracy of guessing, `mass` the mean probability on the
    letters. `further` is the number of questions that would settle an uncertain verdict, None
    where none would or the verdict is settled. `at_chance`: the interval does not exclude guessing
    from above, and the score is not suspiciously low either.

    `retrieved` counts the questions for which passages were found, `n_with_passages` those that
    were asked with some, `leaked` those that a knowledge base contains; `clean` is the score
    without the latter, None where there are none. `letters` are None where no letters were shown.
    `accuracy_debiased` has the letter prior divided out; None where there is none.
    `error_reasons` are the reasons of errors with their numbers. `metrics` are values of what
    grades the answers besides, by metric.
    """

    n: int
    correct: int
    accuracy: float | None
    interval: Interval
    chance: float
    unparsed: int
    truncated: int
    errors: int
    verdict: Verdict | None
    cut_off: int = 0
    further: int | None = None
    accuracy_raw: float | None = None
    mass: float | None = None
    at_chance: bool = False
    below_chance: bool = False
    samples: tuple[str, ...] = ()
    retrieved: int = 0
    n_with_passages: int = 0
    leaked: int = 0
    clean: UncontaminatedScore | None = None
    letters: LetterCounts | None = None
    accuracy_debiased: float | None = None
    error_reasons: Mapping[str, int] = field(default_factory=dict)
    metrics: Mapping[str, MetricScore] = field(default_factory=dict)


@dataclass(frozen=True)
class UncontaminatedScore:
    """A score over the questions that did not leak."""

    n: int
    correct: int
    accuracy: float | None
    interval: Interval


@dataclass(frozen=True)
class EvalResult:
    """The scores of a run, by domain and overall.

    `letter_prior` is what was divided out for the debiased accuracy, `form` how it was asked.
    """

    run: str
    model: str
    suite: str
    target: float
    domains: Mapping[str, DomainScore]
    overall: DomainScore
    seconds: float
    forward_tokens: int
    missing: int
    letter_prior: LetterPrior | None = None
    form: RunForm | None = None

    def as_json(self) -> dict[str, Any]:
        """The object that `bench run --json` prints."""
        data = asdict(self)
        data["letter_prior"] = self.letter_prior.as_json() if self.letter_prior else None
        for score in (*data["domains"].values(), data["overall"]):
            score["let_in"] = score.pop("n_with_passages")
        return {"schema": 1, **data}


def evaluate_run(run: Run, target: float = DEFAULT_TARGET) -> EvalResult:
    """Read a stored run and score it, domain by domain in alphabetical order."""
    manifest = run.manifest
    questions = {question.id: question for question in run.questions()}
    records = [record for record in run.records() if record.id in questions]
    return evaluate_records(manifest, questions, records, target)


def evaluate_records(
    manifest: RunManifest,
    questions: Mapping[str, Question],
    records: Sequence[Record],
    target: float,
) -> EvalResult:
    """Score records of known questions."""
    by_domain: dict[str, list[Record]] = defaultdict(list)
    for record in records:
        by_domain[record.domain].append(record)
    prior = read_letter_prior(manifest.letter_prior)
    lettered = lettered_tasks(manifest)

    def scored(part: Sequence[Record]) -> DomainScore:
        score = _score(part, questions, target)
        return replace(
            score,
            letters=count_record_letters(part, questions, lettered),
            accuracy_debiased=_debiased(part, questions, prior) if prior is not None else None,
            metrics=score_metrics(
                ((r.metrics, questions[r.id].cluster) for r in part), manifest.versions
            ),
        )

    return EvalResult(
        run=manifest.run,
        model=manifest.model,
        suite=manifest.suite,
        target=target,
        domains={d: scored(by_domain[d]) for d in sorted(by_domain)},
        overall=scored(records),
        seconds=manifest.seconds,
        forward_tokens=manifest.forward_tokens,
        missing=len(questions) - len(records),
        letter_prior=prior,
        form=form_of(manifest),
    )


def is_below_chance(outcomes: Sequence[float], chance: float, clusters: Sequence[str]) -> bool:
    """Whether so few right answers (1.0) are too unlikely by guessing: a fault of the harness."""
    n, correct = len(outcomes), int(sum(outcomes))
    if not n or correct >= chance * n:
        return False
    design = design_effect(outcomes, clusters)
    return below_chance(correct, n, chance, design) < SUSPICIOUS


def _score(
    records: Sequence[Record], questions: Mapping[str, Question], target: float
) -> DomainScore:
    answered = [r for r in records if r.correct is not None]
    outcomes = [float(bool(r.correct)) for r in answered]
    clusters = [questions[r.id].cluster for r in answered]
    n, correct = len(answered), int(sum(outcomes))
    chance = _mean([questions[r.id].chance for r in answered]) or 0.0
    interval = accuracy_interval(outcomes, clusters)
    judged = verdict(interval, target) if n else None
    odd = is_below_chance(outcomes, chance, clusters)
    return DomainScore(
        n=n,
        correct=correct,
        accuracy=correct / n if n else None,
        interval=interval,
        chance=chance,
        unparsed=_count(records, Status.UNPARSED),
        cut_off=_count(records, Status.CUT_OFF),
        truncated=_count(records, Status.TRUNCATED),
        errors=_count(records, Status.ERROR),
        verdict=judged,
        further=questions_to_settle(correct / n, n, target, design_effect(outcomes, clusters))
        if judged is Verdict.UNCERTAIN
        else None,
        accuracy_raw=_mean([float(r.correct_raw) for r in answered if r.correct_raw is not None]),
        mass=_mean([r.mass for r in answered if r.mass is not None]),
        at_chance=n > 0 and interval.low <= chance and not odd,
        below_chance=odd,
        samples=_samples(answered, questions) if odd else (),
        retrieved=sum(bool(r.retrieved) for r in records),
        n_with_passages=sum(bool(r.passages) for r in records),
        leaked=sum(bool(r.leak) for r in records),
        clean=_clean(answered, questions) if any(r.leak for r in records) else None,
        error_reasons=count_reasons(
            error_reason(r.error) for r in records if r.status == Status.ERROR
        ),
    )


def _clean(answered: Sequence[Record], questions: Mapping[str, Question]) -> UncontaminatedScore:
    kept = [r for r in answered if not r.leak]
    outcomes = [float(bool(r.correct)) for r in kept]
    clusters = [questions[r.id].cluster for r in kept]
    interval = accuracy_interval(outcomes, clusters)
    return UncontaminatedScore(len(kept), int(sum(outcomes)), _mean(outcomes), interval)


def _debiased(
    records: Sequence[Record], questions: Mapping[str, Question], prior: LetterPrior
) -> float | None:
    """The accuracy with the prior divided out of letters; other answers count as they are."""
    answered = [r for r in records if r.correct is not None]
    return _mean([float(is_right_debiased(r, questions[r.id], prior)) for r in answered])


def is_right_debiased(record: Record, question: Question, prior: LetterPrior) -> bool:
    """Whether a record's letter is right once the prior is divided out."""
    if not record.logprobs or record.status != Status.OK:
        return bool(record.correct)
    return debiased_choice(record.logprobs, record.n_bounded, prior) == question.answer


def _samples(answered: Sequence[Record], questions: Mapping[str, Question]) -> tuple[str, ...]:
    """What the model said where it was wrong, for a person to see what is at fault."""
    wrong = [r for r in answered if not r.correct][:_SAMPLES]
    return tuple(_said(record, questions[record.id]) for record in wrong)


def _said(record: Record, question: Question) -> str:
    asked = " ".join(question.text.split())[-80:]
    if record.text is not None:
        said = repr(record.text[:120])
    elif isinstance(record.chosen, int):
        said = repr(question.options[record.chosen])
    else:
        said = repr(record.chosen)
    return f"…{asked} → {said} (right: {question.answer_text!r})"


def _count(records: Sequence[Record], status: Status) -> int:
    return sum(record.status == status for record in records)


def _mean(values: Sequence[float]) -> float | None:
    return sum(values) / len(values) if values else None
