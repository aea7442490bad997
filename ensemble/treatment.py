"""What each question gets: a route, and what the plan has for the routed domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from domainlift.types import Question, Treatment
from rag.treatment import QuestionSignals
from rag.treatment import treat_with_passages as with_passages

if TYPE_CHECKING:
    from ensemble.plan import DomainTreatment
    from rag.search.retrieval import Retriever
    from rag.treatment import Budget


@dataclass(frozen=True)
class Routed:
    """Where a question goes: a domain, or "" for the base model; who decided it, and by what."""

    domain: str
    rung: str = ""
    matched: tuple[str, ...] = ()


@dataclass(frozen=True)
class PlanResources:
    """What treatments are made of: opened knowledge bases, and adapters under the engine's names.

    Both are by domain. With `options`, the options of a question are searched for too.
    """

    retrievers: Mapping[str, Retriever]
    adapters: Mapping[str, str]
    budget: Budget
    options: bool = False


def treat_by_plan(
    questions: Sequence[Question],
    routes: Sequence[Routed],
    cares: Mapping[str, DomainTreatment],
    means: PlanResources,
    known: QuestionSignals,
) -> list[Treatment]:
    """Treatments in the order of the questions; where the plan has nothing, the base model's.

    Passages come from where a question was sent, which need not be the domain it belongs to.
    """
    gates = {name: care.gate for name, care in cares.items() if care.uses_passages}
    shelves = {name: found for name, found in means.retrievers.items() if name in gates}
    moved = [replace(q, domain=r.domain) for q, r in zip(questions, routes, strict=True)]
    passages = with_passages(moved, shelves, gates, means.budget, known)
    return [
        _apply(route, cares.get(route.domain), means, found)
        for route, found in zip(routes, passages, strict=True)
    ]


def _apply(
    route: Routed, care: DomainTreatment | None, means: PlanResources, found: Treatment
) -> Treatment:
    adapter = means.adapters[route.domain] if care is not None and care.uses_adapter else None
    if not route.domain:
        reason = "base: no route"
    elif care is None or care.treatment == "base":
        reason = f"base: the plan has nothing for {route.domain}"
    else:
        reason = found.reason if care.uses_passages else ""
        reason = ", ".join(filter(None, (reason, adapter and f"adapter {adapter}")))
    return replace(
        found,
        adapter=adapter,
        reason=reason,
        route=route.domain,
        rung=route.rung,
        matched=route.matched,
    )
