"""Open what treatments are made of: knowledge bases and adapters, as a plan names them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domainlift.errors import BenchError
from domainlift.workspace import Workspace
from rag.library import library
from rag.treatment import PASSAGES, TOKENS

if TYPE_CHECKING:
    from pathlib import Path

    from engines.base import Engine
    from ensemble.plan import DomainTreatment
    from ensemble.treatment import PlanResources
    from rag.library import KnowledgeBases
    from rag.search.retrieval import Retriever


@dataclass(frozen=True)
class PassageBudget:
    """At most so many passages before a question, of so many tokens, and how they are found."""

    passages: int = PASSAGES
    tokens: int = TOKENS
    query_options: bool = False


@contextmanager
def open_resources(
    cares: Mapping[str, DomainTreatment],
    engine: Engine,
    workspace: Path,
    limits: PassageBudget | None = None,
) -> Iterator[PlanResources]:
    """Open everything that these domains get, and find that it is what it was."""
    from ensemble.treatment import PlanResources
    from rag.treatment import Budget

    limits = limits if limits is not None else PassageBudget()
    with library(workspace) as shelves:
        yield PlanResources(
            retrievers={
                domain: _retriever(domain, care, shelves)
                for domain, care in cares.items()
                if care.uses_passages
            },
            adapters=open_adapters(cares, engine, workspace),
            budget=Budget(engine.count, limits.passages, limits.tokens),
            options=limits.query_options,
        )


def open_adapters(
    cares: Mapping[str, DomainTreatment], engine: Engine, workspace: Path
) -> dict[str, str]:
    """Load the adapters of a plan; the names under which the engine knows them, by domain."""
    names = {}
    for domain, care in cares.items():
        if care.uses_adapter:
            names[domain] = _adapter(domain, care, engine, workspace)
    return names


def _retriever(domain: str, care: DomainTreatment, shelves: KnowledgeBases) -> Retriever:
    if domain not in shelves.names():
        hint = f"`bench kb build {domain}`, then make the plan anew: `bench improve`"
        raise BenchError(f"knowledge base `{domain}` of the plan is gone", hint)
    found = shelves.open(domain)
    there = found.index.manifest.generation
    if care.knowledge_base and there != care.knowledge_base:
        what = f"knowledge base `{domain}` is `{there}`, the plan is for `{care.knowledge_base}`"
        raise BenchError(what, "make the plan anew: `bench improve`")
    return found


def _adapter(domain: str, care: DomainTreatment, engine: Engine, workspace: Path) -> str:
    from engines.base import AdapterEngine
    from finetune.adapters.registry import AdapterRegistry, load_adapter_into

    if not isinstance(
        engine, AdapterEngine
    ):  # a server knows its adapters by the names that the plan gives
        return care.adapter
    known = AdapterRegistry(Workspace(workspace).adapters)
    if care.adapter not in known.list():
        hint = f"`bench train {domain}`, then make the plan anew: `bench improve`"
        raise BenchError(f"adapter `{care.adapter}` of the plan is gone", hint)
    found = known.open(care.adapter)
    if care.adapter_digest and found.digest != care.adapter_digest:
        what = f"adapter `{care.adapter}` is not the one that the plan was made with"
        raise BenchError(what, "make the plan anew: `bench improve`")
    return load_adapter_into(engine, found)
