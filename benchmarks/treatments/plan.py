"""A plan as a treatment of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.treatments.base import Treater
from domainlift.types import Question, Treatment
from ensemble.treatment import Means, Routed, treat

if TYPE_CHECKING:
    from ensemble.plan import Care
    from rag.treatment import Known


@dataclass(frozen=True)
class Route:
    """Sends each question somewhere; routes that differ have names that differ."""

    name: str
    send: Callable[[Question], Routed]


def ensemble(
    name: str, route: Route, cares: Mapping[str, Care], means: Means, known: Known
) -> Treater:
    """Treat each question as the plan says for the domain that it is sent to."""

    def treated(questions: Sequence[Question]) -> Sequence[Treatment]:
        return treat(
            questions, [route.send(question) for question in questions], cares, means, known
        )

    return Treater(name, _digest([name, route.name], cares, means, known), treated)


#: To the domain that a question belongs to: the route that no router can beat.
BY_LABEL = Route("label", lambda question: Routed(question.domain, "label"))


def at_random(domains: Sequence[str], seed: int = 0) -> Route:
    """Send each question to one of these domains, or to the base model, by a hash of its id."""
    places = [*sorted(domains), ""]

    def route(question: Question) -> Routed:
        drawn = hashlib.sha256(f"{seed}:{question.id}".encode()).digest()
        return Routed(places[int.from_bytes(drawn[:8], "big") % len(places)], "chance")

    return Route(f"random {seed}: {', '.join(places)}", route)


def always(domain: str) -> Route:
    """Send every question to one domain."""
    return Route(f"always {domain}", lambda _: Routed(domain, "always"))


def _digest(names: Sequence[str], cares: Mapping[str, Care], means: Means, known: Known) -> str:
    parts = [
        *names,
        [
            (domain, care.treatment, care.knowledge_base, care.gate, care.adapter_digest)
            for domain, care in sorted(cares.items())
        ],
        [(domain, r.settings.digest) for domain, r in sorted(means.retrievers.items())],
        (means.budget.k, means.budget.tokens, known.options),
        sorted(known.confidence.items()),
        sorted(known.leaks.items()),
    ]
    return hashlib.sha256(repr(parts).encode()).hexdigest()
