"""Whether the passages before a question hold what it asks for, by how well they were found."""

from __future__ import annotations

from domainlift.types import Treatment
from rag.treatment import best_cosine

#: Of the sum below; fitted on 100 questions, half of which a handbook answers. What the same rule
#: does on 100 others is measured by `perf/refusing.py`.
LEAST, COSINE_WEIGHT = 0.54, 0.6


def support(treatment: Treatment) -> float | None:
    """The score of the best passage and a share of its cosine; None without passages.

    The score is high where the words of a question are in the passage, rare ones above all, and
    the cosine where its meaning is.
    """
    cosine = best_cosine(treatment.passages)
    scores = [passage.score for passage in treatment.passages if passage.score is not None]
    return max(scores) + COSINE_WEIGHT * (cosine or 0.0) if scores else None


def is_supported(treatment: Treatment) -> bool:
    """Whether passages support an answer."""
    found = support(treatment)
    return found is not None and found >= LEAST
