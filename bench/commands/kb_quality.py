"""`bench kb check` and `eval`: whether a knowledge base is clean, and any good."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from bench.options import WORKSPACE, Data, Json, WorkspaceOption
from benchmarks.tasks.registry import load_task
from benchmarks.treatments.gate_calibration import contaminated_questions
from domainlift.errors import BenchError, Misuse
from domainlift.types import Question
from knowledge_bases.domains import load_domains
from rag.library import library, open_cached
from rag.quality.beir import evaluate_retrieval
from reports.knowledge import show_leaks, show_retrieval_quality
from reports.progress import Stages
from reports.terminal import print_json, print_note

Task = Annotated[
    list[str] | None, typer.Option(help="Only these tasks or files. [default: all of the domain]")
]
Name = Annotated[str, typer.Argument(help="A domain that has a knowledge base.")]


def kb_check_command(
    domain: Name,
    task: Task = None,
    workspace: WorkspaceOption = WORKSPACE,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """List the benchmark questions that stand in a knowledge base.

    Example: bench kb check biology
    """
    questions = _questions(domain, task, workspace, data)
    with library(workspace) as knowledge_bases:
        leaks = contaminated_questions(questions, {domain: knowledge_bases.open(domain)})
    if as_json:
        found = [asdict(leak) for leak in leaks]
        row = {"domain": domain, "questions": len(questions), "leaked": len(leaks), "leaks": found}
        print_json(row)
        return

    show_leaks(domain, {q.id: q for q in questions}, leaks)


def kb_eval_command(
    path: Annotated[Path, typer.Argument(help="A folder in BEIR layout.")],
    split: Annotated[str, typer.Option(help="Which file in qrels/.")] = "test",
    embedder: Annotated[str, typer.Option(help="As for `bench kb build`.")] = "all-MiniLM-L6-v2",
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Measure retrieval by itself: dense, BM25 and both, on a set with known answers.

    Example: bench kb eval scifact/
    """
    model = open_cached(embedder, workspace)
    with Stages(path.name) as stages:
        found = evaluate_retrieval(path, model, split=split, progress=stages)
    if as_json:
        counts = {"queries": found.queries, "documents": found.documents, "chunks": found.chunks}
        print_json({**counts, **found.methods})
        return

    show_retrieval_quality(path.name, split, found)


def _questions(
    domain: str, tasks: Sequence[str] | None, workspace: Path, data: Path | None
) -> list[Question]:
    """The questions of a domain; tasks whose data is not at hand are told and left out."""
    domains = load_domains(workspace)
    listed = domains[domain].tasks if domain in domains else ()
    questions: list[Question] = []
    failed: list[BenchError] = []
    for name in tasks if tasks else listed:
        try:
            found = load_task(name, data=data, domains=domains, split="test").questions
            questions += [q for q in found if tasks or q.domain == domain]
        except BenchError as error:
            failed.append(error)
    if not questions:
        raise failed[0] if failed else Misuse(f"no questions for `{domain}`", "name some: `--task`")
    for reason in failed:
        print_note(reason.what)
    return questions
