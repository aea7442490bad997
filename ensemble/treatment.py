"""Treatment by a plan: what it has for the domain that a question is routed to."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from domainlift.registry import load_object
from domainlift.types import Question, Treatment
from ensemble.plan import TREATMENTS, DomainTreatment
from ensemble.router.decision import RouteDecision
from rag.search.retrieval import Retriever
from rag.treatment import Budget, QuestionSignals, treat_with_passages


@dataclass(frozen=True)
class PlanResources:
    """Opened knowledge bases, and adapters under the engine's names.

    Both are by domain. With `options`, the options of a question are searched for too.
    """

    retrievers: Mapping[str, Retriever]
    adapters: Mapping[str, str]
    budget: Budget
    options: bool = False


def treat_by_plan(
    questions: Sequence[Question],
    routes: Sequence[RouteDecision],
    plan: Mapping[str, DomainTreatment],
    resources: PlanResources,
    signals: QuestionSignals,
) -> list[Treatment]:
    """Treatments in the order of the questions; where the plan has nothing, the base model's.

    Passages come from the domain that a question was routed to, which need not be its own.
    """
    gates = {name: entry.gate for name, entry in plan.items() if entry.uses_passages}
    retrievers = {name: each for name, each in resources.retrievers.items() if name in gates}
    routed = [replace(q, domain=r.domain or "") for q, r in zip(questions, routes, strict=True)]
    treatments = treat_with_passages(routed, retrievers, gates, resources.budget, signals)
    return [
        _stepped(question, entry, _apply(route, entry, resources, treatment))
        for question, route, entry, treatment in zip(
            questions, routes, [plan.get(r.domain or "") for r in routes], treatments, strict=True
        )
    ]


def _stepped(question: Question, entry: DomainTreatment | None, treatment: Treatment) -> Treatment:
    """The treatment after the step that its kind has besides, if any."""
    path = TREATMENTS[entry.treatment].step if entry is not None else ""
    if not path:
        return treatment
    step: Callable[[Question, Treatment], Treatment] = load_object(path)
    return step(question, treatment)


def _apply(
    route: RouteDecision,
    entry: DomainTreatment | None,
    resources: PlanResources,
    treatment: Treatment,
) -> Treatment:
    """The treatment with passages, and with the adapter and the route of the question."""
    domain = route.domain or ""
    adapter = resources.adapters[domain] if entry is not None and entry.uses_adapter else None
    if not domain:
        reason = "base: no route"
    elif entry is None or entry.treatment == "base":
        reason = f"base: the plan has nothing for {domain}"
    else:
        reason = treatment.reason if entry.uses_passages else ""
        reason = ", ".join(filter(None, (reason, adapter and f"adapter {adapter}")))
    return replace(
        treatment,
        adapter=adapter,
        examples=entry is None or entry.examples,
        reason=reason,
        route=domain,
        decided_by=route.decided_by,
        matched=tuple(term for term, _ in route.matched),
    )
