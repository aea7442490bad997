"""`bench kb`: knowledge bases."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from bench.commands.kb_build import build_command
from bench.commands.kb_quality import kb_check_command, kb_eval_command
from bench.commands.kb_sync import sync_command
from bench.options import WORKSPACE, Json, WorkspaceOption, command_group
from domainlift.hints import copyable
from domainlift.workspace import Workspace
from rag.index.store import KnowledgeBaseStore
from rag.library import library
from rag.retrieval_gate import stored_gates
from rag.search.rerank import open_reranker
from rag.search.retrieval import Retrieval
from reports.knowledge import show_base, show_hits
from reports.terminal import print_json, print_note, print_table

kb = command_group("Build, search and measure knowledge bases.")
kb.command("build")(build_command)
kb.command("sync")(sync_command)
kb.command("check")(kb_check_command)
kb.command("eval")(kb_eval_command)

Name = Annotated[str, typer.Argument(help="A domain; `bench domains` lists them.")]


@kb.command("list")
def list_knowledge_bases(workspace: WorkspaceOption = WORKSPACE, as_json: Json = False) -> None:
    """List all knowledge bases.

    Example: bench kb list
    """
    store = KnowledgeBaseStore(Workspace(workspace).knowledge_bases)
    manifests = [store.manifest(name) for name in store.names()]
    if as_json:
        print_json([asdict(m) for m in manifests])
        return
    columns = ("domain", "generation", "documents", "chunks", "embedder", "created")
    cells = (
        (m.domain, m.generation, f"{m.documents:,}", f"{m.chunks:,}", m.embedder, m.created)
        for m in manifests
    )
    print_table(columns, cells, right=("documents", "chunks"))


@kb.command("show")
def show_knowledge_base(
    domain: Name,
    path: Annotated[bool, typer.Option("--path", help="Print the folder only.")] = False,
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Show what a knowledge base was made of, and the gates that were calibrated on it.

    Example: bench kb show biology
    """
    with KnowledgeBaseStore(Workspace(workspace).knowledge_bases).open(domain) as generation:
        gates = stored_gates(generation.folder)
        if path:
            print(generation.folder)
        elif as_json:
            print_json({**asdict(generation.manifest), "gates": gates})
        else:
            show_base(generation.manifest, gates)


@kb.command("rm")
def remove_knowledge_bases(
    domain: Annotated[list[str], typer.Argument(help="Domains.")],
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Remove knowledge bases for good; their vectors stay in the cache.

    Example: bench kb rm biology
    """
    store = KnowledgeBaseStore(Workspace(workspace).knowledge_bases)
    for name in domain:
        store.remove(name)
        print(f"removed `{name}`")


@kb.command("search")
def search_command(
    domain: Name,
    query: Annotated[str, typer.Argument(help="What to look for.")],
    k: Annotated[int, typer.Option("-k", min=1, help="How many passages.")] = 5,
    method: Annotated[str, typer.Option(help="hybrid, dense or bm25.")] = "hybrid",
    rerank: Annotated[str | None, typer.Option(help="A cross-encoder.")] = None,
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Show the passages that answer a question, with their sources.

    Example: bench kb search biology "Which organelle makes ATP?"
    """
    settings = Retrieval(method=method, reranker=rerank)
    with library(workspace) as shelves:
        reranker = open_reranker(rerank) if rerank is not None else None
        retriever = shelves.open(domain, settings, reranker, exact=True)
        if retriever.index.manifest.stale:
            what = f"the words of `{domain}` were indexed by an earlier version"
            hint = copyable(f"`bench kb build {domain}` indexes them for good")
            print_note(f"{what}, and are indexed anew for this search: {hint}")
        hits = retriever.search([query], k)[0]
    if as_json:
        rows = [
            {
                "rank": hit.rank,
                "text": hit.chunk.text,
                "source": hit.chunk.source,
                "section": hit.chunk.heading,
                "licence": hit.chunk.licence,
                "offset": hit.chunk.offset,
                "dense": hit.dense,
                "bm25": hit.bm25,
                "score": hit.score,
            }
            for hit in hits
        ]
        print_json(rows)
        return

    show_hits(query, hits)
