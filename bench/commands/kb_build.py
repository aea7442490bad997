"""`bench kb build`: make knowledge bases, or bring them up to date."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from typing import Annotated

import typer

from bench.options import WORKSPACE, Data, Json, WorkspaceOption
from domainlift.errors import Misuse, NoSuch
from domainlift.workspace import Workspace
from knowledge_bases.domains import Domain, load_domains
from rag.corpus.chunks import SIZE
from rag.corpus.source_files import Found, domain_sources
from rag.embedding.registry import DEFAULT
from rag.index.build import BuildOptions, BuildReport
from rag.index.build_domain import build_from_files, domain_files
from rag.index.store import KnowledgeBaseStore
from rag.index.sync import current_sources
from rag.library import open_cached
from reports.progress import Stages
from reports.terminal import print_json, print_note


def build_command(
    domain: Annotated[list[str] | None, typer.Argument(help="Domains.")] = None,
    every: Annotated[bool, typer.Option("--all", help="All domains that have sources.")] = False,
    own: Annotated[
        bool, typer.Option("--own", help="Only the domains' own documents, no other sources.")
    ] = False,
    source: Annotated[
        list[str] | None,
        typer.Option(help="A file, a folder, mirror:PATH or hf:ORG/NAME, besides the declared."),
    ] = None,
    licence: Annotated[str, typer.Option(help="Of what `--source` names.")] = "",
    embedder: Annotated[
        str | None,
        typer.Option(
            help="all-MiniLM-L6-v2, org/name, a folder, ollama:NAME. [default: as before]"
        ),
    ] = None,
    chunk_tokens: Annotated[int, typer.Option(min=16, help="Length of a chunk.")] = SIZE,
    chroma: Annotated[
        str | None, typer.Option(help="A Chroma server instead of the embedded store.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Take over nothing.")] = False,
    workspace: WorkspaceOption = WORKSPACE,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Build knowledge bases, or bring them up to date with their sources.

    What did not change is neither read nor embedded again. One of your own files is built from
    where they were the last time, unless `--source` names others.

    Example: bench kb build biology --source notes/
    """
    domains = load_domains(workspace)
    if own:
        domains = {name: replace(found, sources=()) for name, found in domains.items()}
    store = KnowledgeBaseStore(Workspace(workspace).knowledge_bases)
    built = store.names() if not own else []
    names = _chosen(domain, every, domains, built, given=bool(source))
    reports = []
    for name in names:
        model = embedder if embedder is not None else _embedder_before(store, name, rebuild)
        if name in domains or source:
            found = domain_files(name, domains, data, source or (), licence)
        else:
            found, _ = current_sources(name, domains, workspace, data)
        options = BuildOptions(open_cached(model, workspace), chunk_tokens, chroma, rebuild)
        with Stages(name) as stages:
            reports.append(build_from_files(name, found, options, workspace, stages))
        if not as_json:
            _say(reports[-1], found)
    if as_json:
        rows = [asdict(report) for report in reports]
        print_json(rows[0] if len(names) == 1 and not every else rows)


def _chosen(
    names: Sequence[str] | None,
    every: bool,
    domains: dict[str, Domain],
    built: Sequence[str],
    *,
    given: bool,
) -> list[str]:
    if every == bool(names):
        raise Misuse("name domains, or say `--all`", "`bench domains` lists them")
    if names is None or every:
        return [name for name, domain in domains.items() if domain_sources(domain)]
    for name in names:
        # With files of one's own, a knowledge base needs no domain.yaml; where they are is kept.
        if name not in {*domains, *built} and not given:
            raise NoSuch("domain", name, domains, "bench domains")
    return list(names)


def _embedder_before(store: KnowledgeBaseStore, name: str, rebuild: bool) -> str:
    """The model that made the knowledge base so far, so that nobody has to name it again."""
    if name not in store.names():
        return DEFAULT
    try:
        return store.manifest(name).embedder
    except Misuse:
        if rebuild:
            return DEFAULT
        raise


def _say(report: BuildReport, found: Found) -> None:
    for line in [*found.notes, *report.missing, *(f"left out: {r}" for r in report.refused)]:
        print_note(line)
    print(
        f"{report.domain}: {report.documents:,} documents, {report.chunks:,} chunks "
        f"({report.added:,} added, {report.updated:,} updated, {report.skipped:,} skipped, "
        f"{report.deleted:,} deleted) in {report.seconds:.1f} s"
    )
