"""`bench kb build`: make knowledge bases, or bring them up to date."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.options import WORKSPACE, Data, Json, WorkspaceOption
from domainlift.errors import Interrupted, Misuse, NoSuch
from domainlift.text.display import printable
from domainlift.workspace import Workspace

if TYPE_CHECKING:
    from knowledge_bases.domains import Domain
    from rag.corpus.source_files import Found
    from rag.index.build import BuildReport
    from rag.index.store import KnowledgeBaseStore

#: Tokens of a chunk.
_SIZE = 200


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
            help="all-MiniLM-L6-v2, org/name, a folder, onnx, ollama:NAME. [default: as before]"
        ),
    ] = None,
    chunk_tokens: Annotated[int, typer.Option(min=16, help="Length of a chunk.")] = _SIZE,
    chroma: Annotated[
        str | None, typer.Option(help="A Chroma server instead of the embedded store.")
    ] = None,
    rebuild: Annotated[bool, typer.Option("--rebuild", help="Take over nothing.")] = False,
    workspace: WorkspaceOption = WORKSPACE,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Build knowledge bases, or bring them up to date with their sources.

    What did not change is neither read nor embedded again.

    Example: bench kb build biology --source notes/
    """
    from knowledge_bases.domains import load_domains
    from rag.index.store import KnowledgeBaseStore

    domains = load_domains(workspace)
    if own:
        domains = {name: replace(found, sources=()) for name, found in domains.items()}
    names = _chosen(domain, every, domains, given=bool(source))
    store = KnowledgeBaseStore(Workspace(workspace).knowledge_bases)
    reports = []
    for name in names:
        model = embedder if embedder is not None else _embedder_before(store, name, rebuild)
        found = _files(name, domains, data, source if source is not None else (), licence)
        settings = _BuildSettings(model, chunk_tokens, chroma, rebuild)
        reports.append(_build(name, found, settings, workspace))
        if not as_json:
            _say(reports[-1], found)
    if as_json:
        rows = [asdict(report) for report in reports]
        print(json.dumps(rows[0] if len(names) == 1 and not every else rows, ensure_ascii=False))


@dataclass(frozen=True)
class _BuildSettings:
    """What decides a build besides its files."""

    embedder: str
    size: int
    chroma: str | None
    rebuild: bool


def build_knowledge_base(
    name: str, domains: dict[str, Domain], data: Path | None, workspace: Path
) -> BuildReport:
    """Build the knowledge base of a domain from what it declares, with the usual settings."""
    from rag.embedding.registry import DEFAULT

    return _build(
        name,
        _files(name, domains, data, (), ""),
        _BuildSettings(DEFAULT, _SIZE, None, False),
        workspace,
    )


def _chosen(
    names: Sequence[str] | None, every: bool, domains: dict[str, Domain], *, given: bool
) -> list[str]:
    from rag.corpus.source_files import domain_sources

    if every == bool(names):
        raise Misuse("name domains, or say `--all`", "`bench domains` lists them")
    if names is None or every:
        return [name for name, domain in domains.items() if domain_sources(domain)]
    for name in names:
        # With files of one's own, a knowledge base needs no domain.yaml.
        if name not in domains and not given:
            raise NoSuch("domain", name, domains, "bench domains")
    return list(names)


def _embedder_before(store: KnowledgeBaseStore, name: str, rebuild: bool) -> str:
    """The model that made the knowledge base so far, so that nobody has to name it again."""
    from rag.embedding.registry import DEFAULT

    if name not in store.names():
        return DEFAULT
    try:
        return store.manifest(name).embedder
    except Misuse:
        if rebuild:
            return DEFAULT
        raise


def _files(
    name: str,
    domains: dict[str, Domain],
    data: Path | None,
    given: Sequence[str],
    licence: str,
) -> Found:
    from rag.corpus.source_files import domain_sources, find_files

    domain = domains.get(name)
    sources = domain_sources(domain) if domain is not None else ()
    folder = domain.folder if domain is not None else Path()
    if not sources and not given:
        raise Misuse(f"domain `{name}` declares no sources", "give files: `--source PATH`")
    return find_files(sources, folder=folder, data=data, given=given, licence=licence)


def _build(name: str, found: Found, settings: _BuildSettings, workspace: Path) -> BuildReport:
    from rag.index.build import build_index
    from rag.index.build_options import BuildOptions, Embedding
    from rag.library import open_cached
    from reports.progress import Stages

    model = open_cached(settings.embedder, workspace)
    recipe = BuildOptions(
        Embedding(model.name, model.digest, lambda: model),
        size=settings.size,
        chroma=settings.chroma,
        rebuild=settings.rebuild,
    )
    stages = Stages(name)
    try:
        return build_index(
            Workspace(workspace).knowledge_bases,
            name,
            found.files,
            recipe,
            missing=found.missing,
            progress=stages,
        )
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"stopped; knowledge base `{name}` is as it was before",
            "repeat the same command: what was embedded is not embedded again",
        ) from error
    finally:
        stages.end()


def _say(report: BuildReport, found: Found) -> None:
    for line in [*found.notes, *report.missing, *(f"left out: {r}" for r in report.refused)]:
        print(f"note: {printable(line)}", file=sys.stderr)
    print(
        f"{report.domain}: {report.documents:,} documents, {report.chunks:,} chunks "
        f"({report.added:,} added, {report.updated:,} updated, {report.skipped:,} skipped, "
        f"{report.deleted:,} deleted) in {report.seconds:.1f} s"
    )
