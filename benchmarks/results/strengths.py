"""Strengths of a model: the domains in which it is right more often than by guessing."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from benchmarks.runs.store import Record
from domainlift.stats.binomial import above_chance
from domainlift.stats.intervals import design_effect
from domainlift.stats.multiple_testing import holm
from domainlift.types import Question

#: The error rate of calling a guessed domain a strength, over all domains together.
STRENGTH_ALPHA = 0.05


@dataclass(frozen=True)
class Strength:
    """How often a domain's `n` questions are answered right, and what guessing explains.

    `p` is of so many right answers by guessing, adjusted by Holm over the domains; `declared` says
    that the domain is to be protected by its `domain.yaml`.
    """

    n: int
    accuracy: float
    chance: float
    p: float
    declared: bool = False

    @property
    def measured(self) -> bool:
        """Whether the model is right more often than by guessing."""
        return self.p < STRENGTH_ALPHA

    def as_json(self) -> dict[str, Any]:
        """The evidence for JSON."""
        return {"n": self.n, "accuracy": self.accuracy, "chance": self.chance, "p": self.p}


def measure_strengths(
    records: Iterable[Record], questions: Iterable[Question], declared: Collection[str]
) -> dict[str, Strength]:
    """Test each domain of a run of the base model; `declared` names those to be protected."""
    by_id = {question.id: question for question in questions}
    answered: dict[str, list[tuple[Question, bool]]] = defaultdict(list)
    for record in records:
        if record.correct is not None and record.id in by_id:
            answered[record.domain].append((by_id[record.id], record.correct))
    p_values = holm([_p(pairs) for pairs in answered.values()])
    return {
        domain: Strength(
            len(pairs),
            sum(right for _, right in pairs) / len(pairs),
            sum(question.chance for question, _ in pairs) / len(pairs),
            p,
            domain in declared,
        )
        for (domain, pairs), p in sorted(zip(answered.items(), p_values, strict=True))
    }


def protected_strengths(
    strengths: Mapping[str, Strength], treated: Collection[str]
) -> dict[str, Strength]:
    """The measured strengths that are not treated."""
    return {n: each for n, each in strengths.items() if each.measured and n not in treated}


def watched_domains(
    strengths: Mapping[str, Strength], treated: Collection[str]
) -> dict[str, Strength]:
    """The domains that are declared as strengths, and not shown to be any: watched for harm."""
    return {
        name: each
        for name, each in strengths.items()
        if each.declared and not each.measured and name not in treated
    }


def _p(pairs: Collection[tuple[Question, bool]]) -> float:
    rights = [float(right) for _, right in pairs]
    design = design_effect(rights, [question.cluster for question, _ in pairs])
    return above_chance(round(sum(rights)), [question.chance for question, _ in pairs], design)
