"""`bench runs`: stored runs."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from bench.options import WORKSPACE, Json, WorkspaceOption, command_group
from benchmarks.results.domain_scores import evaluate_run
from benchmarks.runs.store import RunStore
from reports.domain_scores import show_manifest
from reports.domain_scores import show_scores as show_profile
from reports.terminal import print_json, print_note, print_table

runs = command_group("List, show and remove stored runs.")


@runs.command("list")
def list_runs(workspace: WorkspaceOption = WORKSPACE, as_json: Json = False) -> None:
    """List all runs, oldest first.

    Example: bench runs list
    """
    manifests, broken = RunStore(workspace).manifests()
    for error in broken:
        print_note(f"{error.what}; {error.hint}")
    if as_json:
        print_json([asdict(m) for m in manifests])
        return
    states = ("unfinished", "finished")
    cells = (
        (m.run, m.model, m.suite, str(m.questions), states[m.finished], m.created)
        for m in manifests
    )
    print_table(("run", "model", "suite", "questions", "state", "created"), cells)


@runs.command("show")
def show_run(
    run: Annotated[str, typer.Argument(help="The run's name, from `bench runs list`.")],
    target: Annotated[float, typer.Option(min=0.0, max=1.0)] = 0.60,
    path: Annotated[bool, typer.Option("--path", help="Print the run's folder only.")] = False,
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Show the scores of a stored run, and how it was made.

    Example: bench runs show demo-tiny-1a2b3c4d
    """
    stored = RunStore(workspace).get(run)
    if path:
        print(stored.folder.resolve())
        return
    scored = evaluate_run(stored, target)
    if as_json:
        print_json({**scored.as_json(), "manifest": asdict(stored.manifest)})
        return

    show_profile(scored)
    show_manifest(stored.manifest)


@runs.command("rm")
def remove_runs(
    run: Annotated[list[str], typer.Argument(help="Names of runs.")],
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Remove runs for good.

    Example: bench runs rm demo-tiny-1a2b3c4d
    """
    store = RunStore(workspace)
    for name in run:
        store.remove(name)
        print(f"removed `{name}`")
