"""Prior over option letters: what a model says whatever is asked, estimated without labels.

PriDe (Zheng et al. 2023, arXiv 2309.03882) takes P(letter | question) for a product of a prior of
the letter and what speaks for the option that stands at it. Where each option of a question has
stood at each letter once, the second part is the same for all letters, and the geometric mean over
these orders is the prior. It is divided out of every answer.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from domainlift.types import Question

#: Questions whose options are asked in every cyclic order, for each number of options: a tenth of
#: those that are scored, within these bounds.
LEAST_QUESTIONS, MOST_QUESTIONS = 4, 16


@dataclass(frozen=True)
class LetterPrior:
    """Log-probabilities of the letters by number of options, and what they were estimated from.

    `questions` were asked in all cyclic orders, which took so many `requests`; `source` says
    which they were. What is stored is what is subtracted.
    """

    log_prior: Mapping[int, tuple[float, ...]]
    questions: int
    requests: int
    source: str

    def debiased(self, logprobs: Sequence[float]) -> list[float] | None:
        """Divide the prior out of log-probabilities; None where there is none for so many.

        To the six digits with which records keep them, so that a stored run says the same.
        """
        prior = self.log_prior.get(len(logprobs))
        if prior is None:
            return None
        return [round(round(a, 6) - b, 6) for a, b in zip(logprobs, prior, strict=True)]

    def as_json(self) -> dict[str, Any]:
        """The object in a run's manifest; JSON knows no numbers as keys."""
        return {**asdict(self), "log_prior": {str(k): list(v) for k, v in self.log_prior.items()}}


def read_letter_prior(stored: Mapping[str, Any]) -> LetterPrior | None:
    """The prior of a manifest; None where it holds none."""
    if not stored:
        return None
    priors = {int(k): tuple(v) for k, v in stored["log_prior"].items()}
    return LetterPrior(priors, stored["questions"], stored["requests"], stored["source"])


def cyclic_orders(question: Question) -> list[Question]:
    """The question with its options in every cyclic order, and without its label."""
    options = question.options
    return [
        replace(question, id=f"{question.id}~{k}", options=options[k:] + options[:k], answer=0)
        for k in range(len(options))
    ]


def estimate_letter_prior(
    answers: Iterable[Sequence[float]], questions: int, source: str
) -> LetterPrior | None:
    """Average log-probabilities of letters over answers; None of nothing."""
    by_count: dict[int, list[Sequence[float]]] = defaultdict(list)
    for logprobs in answers:
        by_count[len(logprobs)].append(_normalised(logprobs))
    if not by_count:
        return None
    priors = {count: _mean_prior(found) for count, found in sorted(by_count.items())}
    return LetterPrior(priors, questions, sum(map(len, by_count.values())), source)


def _mean_prior(answers: Sequence[Sequence[float]]) -> tuple[float, ...]:
    means = [math.fsum(column) / len(answers) for column in zip(*answers, strict=True)]
    return tuple(round(value, 6) for value in _normalised(means))


def _normalised(logprobs: Sequence[float]) -> list[float]:
    top = max(logprobs)
    total = top + math.log(math.fsum(math.exp(value - top) for value in logprobs))
    return [value - total for value in logprobs]
