"""What is done to questions before a model sees them: one path for every treatment."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from domainlift.types import Question, Treatment


@dataclass(frozen=True)
class TreatmentPolicy:
    """Gives each question its treatment; `digest` changes with anything that may change one."""

    name: str
    digest: str
    treat: Callable[[Sequence[Question]], Sequence[Treatment]]


def with_adapter(
    treater: TreatmentPolicy, adapters: Mapping[str, str], digest: str
) -> TreatmentPolicy:
    """The same treatment, answered with an adapter.

    `adapters` names one by domain; the one under "" serves the domains that have none of their
    own. `digest` changes with the weights of any of them.
    """

    def treat(questions: Sequence[Question]) -> Sequence[Treatment]:
        made = []
        for question, treatment in zip(questions, treater.treat(questions), strict=True):
            name = adapters.get(question.domain, adapters.get(""))
            reason = f"{treatment.reason}, adapter {name}"
            made.append(
                treatment if name is None else replace(treatment, adapter=name, reason=reason)
            )
        return made

    chosen = sorted(adapters.items())
    whole = hashlib.sha256(repr([treater.digest, chosen, digest]).encode()).hexdigest()
    name = "adapter" if treater is BASE_POLICY else f"adapter + {treater.name}"
    return TreatmentPolicy(name, whole, treat)


def _untouched(questions: Sequence[Question]) -> Sequence[Treatment]:
    return [Treatment()] * len(questions)


BASE_POLICY = TreatmentPolicy("base", "base", _untouched)
