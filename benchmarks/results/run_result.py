"""Result of `bench run`: the scores, and with a treatment the change against the base model."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from benchmarks.results.domain_scores import EvalResult
from domainlift.stats.paired import Paired
from rag.contamination import Leak
from rag.retrieval_gate import Gate


@dataclass(frozen=True)
class RunResult:
    """The scores of a run; with a treatment, also the base model's and the paired change.

    `paired` is by domain, and in total under "". `treatments` are all scores by treatment in the
    order in which they were made: base, rag, lora, rag+lora.
    """

    profile: EvalResult
    base: EvalResult | None = None
    treatments: Mapping[str, EvalResult] = field(default_factory=dict)
    paired: Mapping[str, Paired] = field(default_factory=dict)
    gates: Mapping[str, Gate] = field(default_factory=dict)
    leaks: tuple[Leak, ...] = ()

    def as_json(self) -> dict[str, Any]:
        """The object that `bench run --json` prints."""
        if self.base is None:
            return self.profile.as_json()
        return {
            **self.profile.as_json(),
            "base": self.base.as_json(),
            "treatments": {name: profile.as_json() for name, profile in self.treatments.items()},
            "paired": {domain: asdict(change) for domain, change in self.paired.items()},
            "gates": {domain: gate.as_json() for domain, gate in self.gates.items()},
            "leaks": [asdict(leak) for leak in self.leaks],
        }
