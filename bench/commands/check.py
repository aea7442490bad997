"""`bench check`: a plan in CI, which fails where a domain is shown to have dropped."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from bench.options import (
    WORKSPACE,
    Data,
    Device,
    Domains,
    Json,
    Limit,
    Suite,
    Tasks,
    WorkspaceOption,
    comma_separated,
    command_line,
    suite_for,
)
from benchmarks.results.comparison import compare_runs
from benchmarks.results.max_drop import check_drops, read_points
from benchmarks.results.pairing import pair_runs
from benchmarks.runs.runner import EvalSettings
from benchmarks.runs.store import Run, RunStore
from benchmarks.runs.suites import choose_tasks
from benchmarks.tasks.base import Task
from domainlift.activity import activity
from domainlift.errors import NoSuch
from engines.base import Engine
from engines.registry import EngineOptions, open_engine
from ensemble.plan import read_plan
from improve.options import RunOptions
from improve.run_plan import run_plan
from improve.versions.champion import champion_plan
from knowledge_bases.domains import load_domains
from reports.check import check_json, render_check
from reports.terminal import print_json

#: What a plan is compared with by name.
BASE, CHAMPION = "base", "champion"


def check_plan_command(
    plan: Annotated[Path, typer.Option(help="The plan to check.")],
    max_drop: Annotated[
        str, typer.Option(help="Points of accuracy that a domain may lose: `2pt`.")
    ] = "2pt",
    baseline: Annotated[
        str,
        typer.Option(
            help="What it is compared with: base (the model alone), champion, a plan's "
            "file, or a stored run."
        ),
    ] = BASE,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="What answers. [default: the plan's model]")
    ] = None,
    suite: Suite = None,
    task: Tasks = None,
    domains: Domains = None,
    limit: Limit = None,
    strict: Annotated[
        bool, typer.Option("--strict", help="Fail also where a domain's drop is inconclusive.")
    ] = False,
    workspace: WorkspaceOption = WORKSPACE,
    data: Data = None,
    device: Device = "auto",
    as_json: Json = False,
) -> None:
    """Compare a plan with a baseline, and exit with 1 where a domain is shown to have dropped.

    Prints Markdown for a pull request. What is neither shown nor ruled out is named inconclusive.

    Example: bench check --plan plans/new.yaml --max-drop 2pt --suite demo
    """
    margin = read_points(max_drop)
    name = model if model is not None else read_plan(plan).model
    settings = EvalSettings(
        suite="tasks" if task else suite_for(suite, name),
        limit=limit,
        command=command_line(sys.argv[1:]),
        domains=comma_separated(domains),
    )
    declared = load_domains(workspace)
    with activity("reading the questions"):
        tasks, settings = choose_tasks(task, settings, declared, data)
    with activity("loading the model"):
        engine = open_engine(name, EngineOptions(device))
    with closing(engine), activity(f"asking by {plan.name}"):
        asking = _Asking(tasks, settings, engine, RunOptions(workspace, data))
        alone, after = asking.plan(plan)
        before = alone if baseline == BASE else asking.baseline(baseline)
    joined = pair_runs(before, after, settings.domains)
    check = check_drops(joined, margin, strict=strict)
    comparison = compare_runs(before, after, joined)
    if as_json:
        print_json(check_json(check, comparison))
    else:
        print(render_check(check, comparison), end="")
    if not check.passed:
        raise typer.Exit(1)


class _Asking:
    """The same questions, asked of several plans."""

    def __init__(
        self, tasks: Sequence[Task], settings: EvalSettings, engine: Engine, options: RunOptions
    ) -> None:
        self._asked = (tasks, settings, engine, options)
        self._store = RunStore(options.workspace)

    def plan(self, path: Path) -> tuple[Run, Run]:
        """The runs of the model alone and of a plan, from the store where they were made before."""
        scores = run_plan(path, *self._asked, asked=False).treatments
        return self._store.get(scores["base"].run), self._store.get(scores["ensemble"].run)

    def baseline(self, name: str) -> Run:
        """The run of a plan, or one that is stored; NoSuch where it is neither."""
        _, __, engine, options = self._asked
        path = (
            champion_plan(options.workspace, engine.info.model) if name == CHAMPION else Path(name)
        )
        if path.is_file():
            return self.plan(path)[1]
        if name not in self._store.ids():
            known = [BASE, CHAMPION, *self._store.ids()]
            raise NoSuch("plan or run", name, known, "bench runs list")
        return self._store.get(name)
