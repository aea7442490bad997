"""Whether the passages before a question hold what it asks for."""

from __future__ import annotations

from domainlift.types import Question, Treatment


def is_supported(question: Question, treatment: Treatment) -> bool:
    """Whether passages support an answer."""
    return bool(treatment.passages)
