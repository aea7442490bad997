"""Build of a domain's knowledge base: its files found, embedded, published."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

from domainlift.activity import activity
from domainlift.errors import Interrupted, Misuse
from domainlift.workspace import Workspace
from knowledge_bases.domains import Domain
from rag.corpus.source_files import Found, domain_sources, find_files
from rag.index.build import BuildOptions, BuildReport, build_index
from rag.index.index import Progress
from rag.index.store import KnowledgeBaseStore
from rag.index.sync import write_record


def domain_files(
    name: str,
    domains: Mapping[str, Domain],
    data: Path | None,
    given: Sequence[str] = (),
    licence: str = "",
) -> Found:
    """The files of a domain's sources and those that are given; Misuse where there are neither."""
    domain = domains.get(name)
    sources = domain_sources(domain) if domain is not None else ()
    folder = domain.folder if domain is not None else Path()
    if not sources and not given:
        raise Misuse(f"domain `{name}` declares no sources", "give files: `--source PATH`")
    return find_files(sources, folder=folder, data=data, given=given, licence=licence)


def build_from_files(
    name: str, found: Found, options: BuildOptions, workspace: Path, progress: Progress
) -> BuildReport:
    """Build a knowledge base, or bring it up to date; Interrupted at Ctrl-C."""
    root = Workspace(workspace).knowledge_bases
    try:
        with activity(f"building the knowledge base of {name}"):
            report = build_index(
                root, name, found.files, options, missing=found.missing, progress=progress
            )
        write_record(workspace, name, found, KnowledgeBaseStore(root).manifest(name))
        return report
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"stopped; knowledge base `{name}` is as it was before",
            "repeat the same command: what was embedded is not embedded again",
        ) from error
