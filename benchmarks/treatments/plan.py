"""A plan as a treatment of a run."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.treatments.base import TreatmentPolicy
from domainlift.types import Question, Treatment
from ensemble.plan import DomainTreatment
from ensemble.router.decision import RouteDecision
from ensemble.treatment import PlanResources, treat_by_plan
from rag.treatment import QuestionSignals


@dataclass(frozen=True)
class RoutingPolicy:
    """Sends each question somewhere; routes that differ have names that differ."""

    name: str
    send: Callable[[Question], RouteDecision]


def plan_policy(
    name: str,
    route: RoutingPolicy,
    treatments: Mapping[str, DomainTreatment],
    resources: PlanResources,
    signals: QuestionSignals,
) -> TreatmentPolicy:
    """Treat each question as the plan says for the domain that it is sent to."""

    def treated(questions: Sequence[Question]) -> Sequence[Treatment]:
        routes = [route.send(question) for question in questions]
        return treat_by_plan(questions, routes, treatments, resources, signals)

    digest = _digest([name, route.name], treatments, resources, signals)
    return TreatmentPolicy(name, digest, treated)


#: To the domain that a question belongs to: the route that no router can beat.
ORACLE = RoutingPolicy("label", lambda question: RouteDecision(question.domain, "label"))


def random_policy(domains: Sequence[str]) -> RoutingPolicy:
    """Send each question to one of these domains, or to the base model, by a hash of its id."""
    names = [*sorted(domains), ""]

    def route(question: Question) -> RouteDecision:
        drawn = hashlib.sha256(f"0:{question.id}".encode()).digest()
        name = names[int.from_bytes(drawn[:8], "big") % len(names)]
        return RouteDecision(name or None, "chance")

    return RoutingPolicy(f"random 0: {', '.join(names)}", route)


def constant_policy(domain: str) -> RoutingPolicy:
    """Send every question to one domain."""
    return RoutingPolicy(f"always {domain}", lambda _: RouteDecision(domain, "always"))


def _digest(
    names: Sequence[str],
    treatments: Mapping[str, DomainTreatment],
    resources: PlanResources,
    signals: QuestionSignals,
) -> str:
    parts = [
        *names,
        [
            (domain, entry.treatment, entry.knowledge_base, entry.gate, entry.adapter_digest)
            for domain, entry in sorted(treatments.items())
        ],
        [(domain, r.settings.digest) for domain, r in sorted(resources.retrievers.items())],
        (resources.budget.k, resources.budget.tokens, signals.options),
        sorted(signals.confidence.items()),
        sorted(signals.leaks.items()),
    ]
    bare = [domain for domain, entry in sorted(treatments.items()) if not entry.examples]
    parts += [bare] if bare else []
    return hashlib.sha256(repr(parts).encode()).hexdigest()
