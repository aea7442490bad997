"""From an engine's answer to a score."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.scoring import answer_extraction as parsing
from domainlift.types import Question
from engines.base import Answer, Mode, Status


@dataclass(frozen=True)
class Score:
    """What an answer is worth.

    `correct` is None where the question was not answered (truncated, error). For cloze scoring
    it is decided by the log-likelihood per character, lm-eval's acc_norm; `correct_raw` by the
    log-likelihood itself, lm-eval's acc. `chosen` is an option's index or the text of an answer.
    """

    status: Status
    correct: bool | None
    chosen: int | str | None = None
    correct_raw: bool | None = None


def score(question: Question, answer: Answer, mode: Mode) -> Score:
    """Score one answer; what cannot be read is unparsed, never silently wrong."""
    if answer.status in {Status.TRUNCATED, Status.ERROR}:
        return Score(answer.status, None)
    if answer.logprobs:
        if answer.n_bounded == len(answer.logprobs):
            # No letter was among the alternatives: all stand with the same bound, none is chosen.
            return Score(Status.UNPARSED, False)
        return _scored_options(question, answer.logprobs, mode)
    return _scored_reply(question, answer.text if answer.text is not None else "")


def per_character(question: Question, logprobs: Sequence[float]) -> list[float]:
    """Log-likelihoods divided by the options' lengths in characters, as lm-eval's acc_norm."""
    return [
        value / max(1, len(option.strip()))
        for value, option in zip(logprobs, question.options, strict=True)
    ]


def probabilities(logprobs: Sequence[float]) -> list[float]:
    """The options' shares of the probability that falls on any of them."""
    top = max(logprobs)
    weights = [math.exp(value - top) for value in logprobs]
    return [weight / sum(weights) for weight in weights]


def _scored_options(question: Question, logprobs: Sequence[float], mode: Mode) -> Score:
    raw = _best(logprobs)
    if mode is not Mode.CLOZE:
        return Score(Status.OK, raw == question.answer, raw)
    chosen = _best(per_character(question, logprobs))
    return Score(Status.OK, chosen == question.answer, chosen, raw == question.answer)


def _scored_reply(question: Question, reply: str) -> Score:
    chosen: int | str | None
    if isinstance(question.answer, int):
        chosen = parsing.extract_letter(reply, question.options)
        right: int | str | None = question.answer
    elif parsing.as_number(question.answer) is not None:
        chosen = parsing.extract_number(reply)
        right = parsing.as_number(question.answer)
    else:
        chosen = " ".join(reply.split())
        right = " ".join(question.answer.split())
    if chosen is None or chosen == "":
        return Score(Status.UNPARSED, False)
    return Score(Status.OK, chosen == right, chosen)


def _best(values: Sequence[float]) -> int:
    return max(range(len(values)), key=values.__getitem__)
