"""Scores on an exam that was made of documents: held-out facts and held-out wordings apart."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from domainlift.stats.intervals import Interval


@dataclass(frozen=True)
class ExamScore:
    """Accuracy of one treatment, with its 95 % interval."""

    n: int
    accuracy: float
    interval: Interval


@dataclass(frozen=True)
class ExamScores:
    """Held-out scores by treatment: of facts that no training row tells, and of those that do.

    Passages alone can lift `facts`; what an adapter lifts in `wordings` it has learned. `served`
    are both as a person asks them: without options, in a chat, by the words of the reply, and
    `served_likelihood` by which option is likeliest as the reply. `counts` are those of the exam.
    """

    domain: str
    counts: Mapping[str, Any]
    facts: Mapping[str, ExamScore] = field(default_factory=dict)
    wordings: Mapping[str, ExamScore] = field(default_factory=dict)
    served: Mapping[str, ExamScore] = field(default_factory=dict)
    served_likelihood: Mapping[str, ExamScore] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The keys that `bench improve --docs --json` has beside the others."""
        return {
            "domain": self.domain,
            "exam": dict(self.counts),
            "held_out_facts": _scores(self.facts),
            "held_out_wordings": _scores(self.wordings),
            "as_served": _scores(self.served),
            "as_served_likelihood": _scores(self.served_likelihood),
        }


def _scores(scores: Mapping[str, ExamScore]) -> dict[str, Any]:
    names = ("base", "rag", "lora", "rag+lora", "ensemble")
    return {
        name.replace("+", "_"): asdict(scores[name]) if name in scores else None for name in names
    }
