"""Counts of a run's routes and treatments."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from benchmarks.results.pairing import Pair, PairedAnswer

#: What a router's abstention is called.
BASE = "base"


@dataclass(frozen=True)
class RouteCounts:
    """The candidate's routes: `confusion` counts (domain of the question, route).

    `decided_by` counts the stages that decided; `treated` counts (domain, what was done).
    """

    confusion: Counter[tuple[str, str]] = field(default_factory=Counter)
    decided_by: Counter[str] = field(default_factory=Counter)
    treated: Counter[tuple[str, str]] = field(default_factory=Counter)

    @property
    def n(self) -> int:
        """Questions that a router saw; 0 where the run had none."""
        return self.confusion.total()

    @property
    def covered(self) -> float | None:
        """The share that was not left to the base model."""
        left = sum(count for (_, route), count in self.confusion.items() if route == BASE)
        return 1 - left / self.n if self.n else None

    @property
    def right(self) -> float | None:
        """Of the questions that were routed, the share that went to their own domain."""
        sent = {key: count for key, count in self.confusion.items() if key[1] != BASE}
        own = sum(count for (domain, route), count in sent.items() if domain == route)
        return own / sum(sent.values()) if sent else None


def count_routes(pairs: Sequence[Pair]) -> RouteCounts:
    """Count the candidate's routes and treatments."""
    there = [(pair.question.domain, pair.after) for pair in pairs if pair.after is not None]
    # A run without a router has neither routes nor stages.
    routed = any(answer.route or answer.decided_by for _, answer in there)
    return RouteCounts(
        Counter((domain, answer.route or BASE) for domain, answer in there if routed),
        Counter(answer.decided_by or BASE for _, answer in there if routed),
        Counter((domain, _treatment(answer)) for domain, answer in there),
    )


def _treatment(answer: PairedAnswer) -> str:
    parts = [("rag", answer.passages > 0), ("lora", answer.adapter)]
    return "+".join(name for name, given in parts if given) or BASE
