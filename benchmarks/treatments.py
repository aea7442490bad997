"""What is done to questions before a model sees them: one path for every treatment."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from domainlift.questions import Question, Treatment


@dataclass(frozen=True)
class Treater:
    """Gives each question its treatment; `digest` changes with anything that may change one."""

    name: str
    digest: str
    treat: Callable[[Sequence[Question]], Sequence[Treatment]]


def _untouched(questions: Sequence[Question]) -> Sequence[Treatment]:
    return [Treatment()] * len(questions)


BASE = Treater("base", "base", _untouched)
