"""Resources of treatments: opened knowledge bases and loaded adapters."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from domainlift.errors import BenchError, Misuse
from domainlift.workspace import Workspace
from engines.base import AdapterEngine, Engine
from ensemble.plan import DomainTreatment
from ensemble.treatment import PlanResources
from finetune.adapters.registry import AdapterRegistry, load_adapter_into
from rag.library import KnowledgeBases, library
from rag.search.retrieval import Retriever
from rag.treatment import PASSAGES, TOKENS, Budget

#: Stands for the newest adapter of each question's own domain.
OWN = "own"


@dataclass(frozen=True)
class PassageBudget:
    """At most so many passages before a question, of so many tokens, and how they are found."""

    passages: int = PASSAGES
    tokens: int = TOKENS
    query_options: bool = False


@contextmanager
def open_resources(
    treatments: Mapping[str, DomainTreatment],
    engine: Engine,
    workspace: Path,
    budget: PassageBudget | None = None,
) -> Iterator[PlanResources]:
    """Open the plan's knowledge bases and adapters and check their versions."""
    budget = budget if budget is not None else PassageBudget()
    with library(workspace) as knowledge_bases:
        yield PlanResources(
            retrievers={
                domain: _retriever(domain, treatment, knowledge_bases)
                for domain, treatment in treatments.items()
                if treatment.uses_passages
            },
            adapters=open_adapters(treatments, engine, workspace),
            budget=Budget(engine.count, budget.passages, budget.tokens),
            options=budget.query_options,
        )


def open_adapters(
    treatments: Mapping[str, DomainTreatment], engine: Engine, workspace: Path
) -> dict[str, str]:
    """Load the adapters of a plan; the engine's names of them, by domain."""
    return {
        domain: _adapter(domain, treatment, engine, workspace)
        for domain, treatment in treatments.items()
        if treatment.uses_adapter
    }


def adapters_from_option(
    names: tuple[str, ...], engine: Engine, workspace: Path, domains: Collection[str]
) -> dict[str, DomainTreatment]:
    """Load the adapters that a user names; the treatment of each domain that has one.

    One name serves every question; several, or `own`, each serve the questions of their domain.
    Treatments name an adapter as the engine knows it.
    """
    if not isinstance(engine, AdapterEngine):
        # A server that cannot load adapters has them already, under names of its own.
        if len(names) != 1:
            raise Misuse("over a server one adapter is named", "give the name that it serves")
        served = DomainTreatment("lora", adapter=names[0], adapter_digest=names[0])
        return dict.fromkeys(domains, served)
    registry = AdapterRegistry(Workspace(workspace).adapters)
    own = names == (OWN,)
    if own:
        names = tuple(sorted({name.split("/")[0] for name in registry.list()} & set(domains)))
    if not names:
        raise Misuse("no domain that is asked has an adapter", "`bench adapters list` shows all")
    treatments: dict[str, DomainTreatment] = {}
    for wanted in names:
        adapter = registry.open(wanted)
        domain = adapter.card.domain
        if domain in treatments:
            raise Misuse(f"two adapters are for `{domain}`", "name one for each domain")
        name = load_adapter_into(engine, adapter)
        treatment = DomainTreatment("lora", adapter=name, adapter_digest=adapter.digest)
        if len(names) == 1 and not own:
            return dict.fromkeys(domains, treatment)
        treatments[domain] = treatment
    return treatments


def _retriever(
    domain: str, treatment: DomainTreatment, knowledge_bases: KnowledgeBases
) -> Retriever:
    if domain not in knowledge_bases.names():
        hint = f"`bench kb build {domain}`, then make the plan anew: `bench improve`"
        raise BenchError(f"knowledge base `{domain}` of the plan is gone", hint)
    return knowledge_bases.open(domain, generation=treatment.knowledge_base)


def _adapter(domain: str, treatment: DomainTreatment, engine: Engine, workspace: Path) -> str:
    if not isinstance(engine, AdapterEngine):
        # A server knows its adapters by the names that the plan gives.
        return treatment.adapter
    registry = AdapterRegistry(Workspace(workspace).adapters)
    if treatment.adapter not in registry.list():
        hint = f"`bench train {domain}`, then make the plan anew: `bench improve`"
        raise BenchError(f"adapter `{treatment.adapter}` of the plan is gone", hint)
    adapter = registry.open(treatment.adapter)
    if treatment.adapter_digest and adapter.digest != treatment.adapter_digest:
        what = f"adapter `{treatment.adapter}` is not the one that the plan was made with"
        raise BenchError(what, "make the plan anew: `bench improve`")
    return load_adapter_into(engine, adapter)
