"""Treatment policies: what is done to the questions of a run before a model sees them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from domainlift.types import Question, Treatment


@dataclass(frozen=True)
class TreatmentPolicy:
    """Gives each question its treatment; `digest` changes with anything that may change one."""

    name: str
    digest: str
    treat: Callable[[Sequence[Question]], Sequence[Treatment]]


BASE_POLICY = TreatmentPolicy("base", "base", lambda questions: [Treatment()] * len(questions))
