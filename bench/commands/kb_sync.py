"""`bench kb sync`: a knowledge base brought up to date with its documents, after a preview."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from typing import Annotated, Any

import typer

from bench.options import WORKSPACE, Data, Json, WorkspaceOption
from domainlift.activity import activity
from domainlift.errors import BenchError
from domainlift.text.display import one_line, printable
from domainlift.workspace import Workspace
from improve.exam.touched import touched_questions
from knowledge_bases.domains import load_domains
from rag.index.build import BuildOptions
from rag.index.build_domain import build_from_files
from rag.index.store import KnowledgeBaseStore
from rag.index.sync import SourceChanges, current_sources, keep_gone, source_changes
from rag.library import open_cached
from reports.progress import Stages
from reports.terminal import print_json, print_note

_MOST_SHOWN = 20


def sync_command(
    domain: Annotated[str, typer.Argument(help="A domain that has a knowledge base.")],
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only show what would change.")] = (
        False
    ),
    yes: Annotated[
        bool, typer.Option("--yes", help="Delete documents that are gone, without a question.")
    ] = False,
    delete: Annotated[
        bool, typer.Option("--delete", help="The same, also where most of them are gone.")
    ] = False,
    workspace: WorkspaceOption = WORKSPACE,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Bring a knowledge base up to date with the files that it was built from.

    Documents that are gone stay in it, unless you say otherwise at the question or by `--yes`.

    Example: bench kb sync handbook --dry-run
    """
    manifest = KnowledgeBaseStore(Workspace(workspace).knowledge_bases).manifest(domain)
    domains = load_domains(workspace)
    found, record = current_sources(domain, domains, workspace, data)
    changes = source_changes(manifest, found.files, record.refused)
    touched = touched_questions(workspace, domain, domains, changes, found.files)
    told: dict[str, Any] = {
        "added": list(changes.added),
        "changed": list(changes.changed),
        "gone": list(changes.gone),
        "questions_touched": touched,
    }
    if not as_json:
        _show(domain, told)
    if not dry_run and changes.any:
        if found.missing and changes.gone:
            what = f"{len(changes.gone):,} documents of `{domain}` are of a source that is not here"
            raise BenchError(what, found.missing[0])
        deletes = _may_delete(domain, changes, yes=yes, delete=delete, ask=not as_json)
        files = found.files if deletes else tuple(keep_gone(manifest, found.files, changes))
        model = open_cached(manifest.embedder, workspace)
        options = BuildOptions(model, manifest.size, manifest.chroma)
        with Stages(domain) as stages:
            made = build_from_files(domain, replace(found, files=files), options, workspace, stages)
        kept = () if deletes else changes.gone
        told |= {"generation": made.generation, "kept": list(kept), "refused": list(made.refused)}
        for line in (*found.notes, *(f"left out: {each}" for each in made.refused)):
            print_note(line)
        if not as_json:
            stays = f"; {len(kept):,} that are gone stay: `--yes` deletes them" if kept else ""
            print(f"{domain}: {made.documents:,} documents, {made.chunks:,} chunks{stays}")
    if as_json:
        print_json(told)


def _may_delete(domain: str, changes: SourceChanges, *, yes: bool, delete: bool, ask: bool) -> bool:
    """Whether lost documents go; BenchError where so many are lost that it may be an accident."""
    count = len(changes.gone)
    if delete or not count:
        return True
    if changes.halved:
        raise BenchError(
            f"{count:,} of {changes.before:,} documents of `{domain}` are gone, and nothing was "
            "changed: a folder that lost so many is often one that is not mounted",
            f"if they are meant to go: `bench kb sync {domain} --delete`",
        )
    if yes or not ask or not (sys.stdin.isatty() and sys.stderr.isatty()):
        return yes
    with activity(""):  # a person thinks as long as they like
        return typer.confirm(f"Delete what is gone ({count:,})?", err=True)


def _show(domain: str, told: dict[str, Sequence[str]]) -> None:
    if not any(told.values()):
        print(f"{domain}: nothing has changed")
    signs = {"added": "+", "changed": "~", "gone": "-"}
    for what, sign in signs.items():
        for each in told[what][:_MOST_SHOWN]:
            print(f"{sign} {printable(one_line(each, 200))}")
        if len(told[what]) > _MOST_SHOWN:
            print(f"{sign} and {len(told[what]) - _MOST_SHOWN:,} more {what}")
    if touched := told["questions_touched"]:
        more = f" and {len(touched) - 5:,} more" if len(touched) > 5 else ""
        print(
            f"{len(touched):,} examined questions of `{domain}` ask for passages that changed: "
            f"{', '.join(touched[:5])}{more}"
        )
