"""`bench improve`: the whole loop, from a score to a plan that was proven."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.exam import exam_line
from bench.experiment_file import config_text
from bench.options import (
    DEFAULT_MODEL,
    EMBEDDED_SUITES,
    WORKSPACE,
    BudgetMinutes,
    Data,
    Device,
    Json,
    PrintConfig,
    Rows,
    Suite,
    WorkspaceOption,
    comma_separated,
    command_line,
    suite_for,
)
from benchmarks.held_out.choice import ChoiceCriteria, Prefer
from benchmarks.held_out.gate import GateCriteria, parse_min_gain
from benchmarks.results.improve_result import ImproveResult
from domainlift.errors import Misuse, NoSuch, member_of
from domainlift.hints import copyable
from engines.gguf.files import smollm2_file
from engines.registry import SMOLLM2, TINY
from finetune.data.recipe import Recipe
from finetune.jobs import training_arguments
from improve.context import ImproveContext, prepare_context
from improve.documents import document_folder, prepare_documents
from improve.forecast import forecast
from improve.load_model import LazyEngine, ModelSpec
from improve.loop import improve
from improve.options import ImproveOptions, RunOptions
from improve.versions.champion import register_result
from reports.improve import ImproveView, show_forecast
from reports.terminal import print_json, print_note

#: A narrow model takes a high rate; a few passes keep the demonstration short.
_DEMO_SETTINGS = {SMOLLM2: ["epochs=4", "learning_rate=2e-3", "eval_every=56"]}


def improve_command(
    model: Annotated[
        str, typer.Option("--model", "-m", envvar="BENCH_MODEL", help="What to improve.")
    ] = DEFAULT_MODEL,
    suite: Suite = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Treat the domain of these tasks: a name, lm-eval:NAME, or a file."),
    ] = None,
    docs: Annotated[
        Path | None, typer.Option(help="A folder of documents: an exam is made of them.")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the documents' domain. [default: the folder's]")
    ] = None,
    writer: Annotated[
        str | None,
        typer.Option(help="Of the documents' exam, besides the rules: a model, or none."),
    ] = None,
    only: Annotated[
        str | None, typer.Option(help="Treat these domains, separated by commas, weak or not.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=2, help="At most so many questions, a third for choosing.")
    ] = None,
    min_gain: Annotated[
        str, typer.Option(help="The least gain: 5pt (points), or 5% of the baseline's accuracy.")
    ] = "5pt",
    prefer: Annotated[
        str, typer.Option(help="accuracy, or cost: the cheapest that is not shown to be worse.")
    ] = Prefer.ACCURACY.value,
    margin: Annotated[
        float,
        typer.Option(min=0.1, max=50, help="Points that a cheaper treatment is shown not to lose."),
    ] = 2.0,
    skip_rag: Annotated[bool, typer.Option("--skip-rag", help="Build no knowledge base.")] = False,
    skip_train: Annotated[bool, typer.Option("--skip-train", help="Train no adapter.")] = False,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE, a setting of the trainings: see `bench train`."),
    ] = None,
    budget_minutes: BudgetMinutes = None,
    rows: Rows = None,
    target: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="A domain below it is weak.")
    ] = 0.60,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show the stages, and what each will take.")
    ] = False,
    workspace: WorkspaceOption = WORKSPACE,
    data: Data = None,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16 (in-process).")] = "auto",
    challenger: Annotated[bool, typer.Option("--challenger", hidden=True)] = False,
    print_config: PrintConfig = False,
    as_json: Json = False,
) -> None:
    """Find weak domains, treat them, and prove what got better.

    Each stage asks only what is not known yet: an interrupted loop goes on when its command is
    repeated. What is chosen is chosen on selection questions; the verdict is that of held-out
    ones, which are looked at once.

    With `--task` the questions of a file, say, are treated with the knowledge base of their name,
    and an embedded model's strengths are watched beside them. With `--docs` a folder is enough: its
    knowledge base is built, and an exam is made of it (`bench exam show` lists its questions).

    Example: bench improve --model tiny
    """
    if print_config:
        print(config_text("improve", locals()), end="")
        return
    least = parse_min_gain(min_gain)
    chosen = suite_for(suite, model)
    if docs is None and (name is not None or writer is not None):
        raise Misuse("`--name` and `--writer` are for documents", "add `--docs FOLDER`")
    documents = document_folder(docs, name, writer) if docs is not None else None
    if (task or documents) and suite is None and model not in EMBEDDED_SUITES:
        chosen = ""
        print_note("nothing else is asked or watched for harm; `--suite mmlu --limit 800` does so")
    options = ImproveOptions(
        GateCriteria(least),
        comma_separated(only),
        skip_rag,
        skip_train,
        budget_minutes,
        rows,
        own=chosen in EMBEDDED_SUITES.values(),
        change=_settings(change),
        choice=ChoiceCriteria(least, margin / 100, member_of(Prefer, "preference", prefer)),
        tasks=tuple(task if task is not None else ()),
        strengths_only=suite is None and bool(task or documents),
    )
    lazy = LazyEngine(ModelSpec(model, device, dtype))
    run_options = RunOptions(workspace, data, target=target)

    def prepare() -> ImproveContext:
        own = options
        if documents is not None:
            exam, files = prepare_documents(documents, lazy, run_options, ask=not dry_run)
            print(exam_line(exam), file=sys.stderr)
            chat = dry_run or lazy.engine.info.has_chat_template
            tasks = (*options.tasks, str(files.task))
            own = replace(options, tasks=tasks, exam=exam, exam_in_chat=chat)
        command = command_line(sys.argv[1:])
        return prepare_context(chosen, limit, run_options, own, command)

    try:
        if dry_run:
            show_forecast(forecast(lazy, prepare), as_json=as_json)
        else:
            _run(prepare(), lazy, as_json=as_json, challenger=challenger)
    finally:
        lazy.close()


def demo(
    model: Annotated[
        str | None,
        typer.Option("--model", help="smollm2, a real model, or tiny, which is done sooner."),
    ] = None,
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Improve an embedded model on built-in documents: the whole loop in a few minutes.

    Without `--model` it is smollm2, and tiny where that is not installed.

    Example: bench demo --model tiny
    """
    if model is None:
        model = SMOLLM2
        try:
            smollm2_file()
        except Misuse as error:
            model = TINY
            print_note(f"{error.what}, so this is `tiny`; {error.hint}")
    if model not in EMBEDDED_SUITES:
        raise NoSuch("embedded model", model, EMBEDDED_SUITES)
    change = _DEMO_SETTINGS.get(model, [])
    settings = [word for each in change for word in ("--set", each)]
    same = shlex.join(["bench", "improve", "--model", model, *settings])
    print_note(f"this is `{copyable(same)}`")
    improve_command(model=model, workspace=workspace, as_json=as_json, change=change)


def _run(context: ImproveContext, lazy: LazyEngine, *, as_json: bool, challenger: bool) -> None:
    view = ImproveView()
    result = improve(context, lazy, _ignore if as_json else view.tell)
    version = register_result(context.run_options.workspace, result, challenger=challenger)
    if version is not None:
        print_note(f"the plan is version `{version.name}`: {version.state.value}")
    if as_json:
        print_json(result.as_json())
        return
    view.close(result)
    if result.report is not None:
        print(f"report: {result.report}", file=sys.stderr)


def _ignore(result: ImproveResult) -> None:
    """No-op: JSON is printed whole at the end."""


def _settings(given: Sequence[str] | None) -> tuple[str, ...]:
    """The settings that the user changed, refused before the loop begins where they are wrong."""
    changed = tuple(given if given is not None else ())
    training_arguments(Recipe({"": 1.0}), changed)
    return changed
