"""Scores of answers: correct, wrong, unparsed, or not answered."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.scoring.letter_prior import LetterPrior
from benchmarks.scoring.metric_registry import Statistics, measure
from benchmarks.scoring.scorer import BY_REFERENCE, Scorer
from domainlift.types import Question
from engines.base import Answer, Mode, Status

#: How an answer was found that is an option with its log-probability.
LOGPROBS = "log-probabilities"


@dataclass(frozen=True)
class Score:
    """Score of one answer.

    `correct` is None where the question was not answered (truncated, error), or its task has no
    right and wrong. `metrics` are statistics of the answer by metric. For cloze scoring it is
    decided by the log-likelihood per character, lm-eval's acc_norm; `correct_raw` by the
    log-likelihood itself, lm-eval's acc, also where a prior of letters is divided out. `chosen` is
    an option's index or the text of an answer, `extracted_by` names how it was found.
    """

    status: Status
    correct: bool | None
    chosen: int | str | None = None
    correct_raw: bool | None = None
    extracted_by: str = field(default="nothing", compare=False)
    metrics: Mapping[str, Statistics] = field(default_factory=dict)


def score(
    question: Question,
    answer: Answer,
    mode: Mode,
    scorer: Scorer = BY_REFERENCE,
    prior: LetterPrior | None = None,
) -> Score:
    """Score log-probabilities by `mode` and a reply by `scorer`; letters after dividing by `prior`.

    A reply without a readable answer is unparsed, never silently wrong. One that the limit cut off
    has none either, whatever stands in it: what would have come next may have taken it back.
    """
    if answer.status in {Status.TRUNCATED, Status.ERROR}:
        return Score(answer.status, None)
    graded = measure(scorer.metrics, question, answer)
    if not scorer.judges:
        return Score(Status.OK, None, metrics=graded)
    judged = _judged(question, answer, mode, scorer, prior)
    return replace(judged, metrics=graded) if graded else judged


def _judged(
    question: Question, answer: Answer, mode: Mode, scorer: Scorer, prior: LetterPrior | None
) -> Score:
    if answer.logprobs:
        if answer.n_bounded == len(answer.logprobs):
            # No letter was among the alternatives: all have the same bound, none is chosen.
            return Score(Status.UNPARSED, False)
        if mode is Mode.LETTER and prior is not None:
            raw = _best(answer.logprobs)
            chosen = debiased_choice(answer.logprobs, answer.n_bounded, prior)
            return _scored(question, chosen, raw)
        return _score_options(question, answer.logprobs, mode)
    reply = answer.text if answer.text is not None else ""
    if answer.cut_off and mode is Mode.GENERATE:
        return Score(Status.CUT_OFF, False)
    scored = _score_reply(question, reply, scorer)
    # Where letters are read from text, it is we who ask for a few words only.
    cut = answer.cut_off and scored.status is Status.UNPARSED
    return Score(Status.CUT_OFF, False) if cut else scored


def per_character(question: Question, logprobs: Sequence[float]) -> list[float]:
    """Divide log-likelihoods by the options' lengths in characters, as lm-eval's acc_norm does."""
    return [
        value / max(1, len(option.strip()))
        for value, option in zip(logprobs, question.options, strict=True)
    ]


def debiased_choice(logprobs: Sequence[float], n_bounded: int, prior: LetterPrior) -> int:
    """The letter that stands out from the prior; the most probable one where that is unknown.

    A letter that has only a bound may have any probability below it, so nothing is divided then.
    """
    debiased = None if n_bounded else prior.debiased(logprobs)
    return _best(logprobs if debiased is None else debiased)


def probabilities(logprobs: Sequence[float]) -> list[float]:
    """Normalise log-probabilities over the options (softmax)."""
    top = max(logprobs)
    weights = [math.exp(value - top) for value in logprobs]
    total = sum(weights)
    return [weight / total for weight in weights]


def _score_options(question: Question, logprobs: Sequence[float], mode: Mode) -> Score:
    raw = _best(logprobs)
    if mode is not Mode.CLOZE:
        return _scored(question, raw)
    return _scored(question, _best(per_character(question, logprobs)), raw)


def _scored(question: Question, chosen: int, raw: int | None = None) -> Score:
    right_raw = None if raw is None else raw == question.answer
    return Score(Status.OK, chosen == question.answer, chosen, right_raw, LOGPROBS)


def _score_reply(question: Question, reply: str, scorer: Scorer) -> Score:
    found = scorer.extract(question, reply)
    if found is None or found.answer == "":
        return Score(Status.UNPARSED, False)
    right = scorer.matches(question, found)
    return Score(Status.OK, right, found.answer, extracted_by=found.by)


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
