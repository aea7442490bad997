"""`bench train`: teach a model a domain, and watch that it forgets nothing."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.commands.data import learn_traces
from bench.experiment_file import config_text
from bench.options import (
    DEFAULT_MODEL,
    WORKSPACE,
    BudgetMinutes,
    Data,
    Device,
    Json,
    PrintConfig,
    Rows,
    WorkspaceOption,
)
from domainlift.errors import Misuse
from engines.local.loading import need_local
from engines.registry import TINY
from finetune.data.recipe import Recipe, read_recipe, read_setting, with_stages
from finetune.distributed.process_group import destroy, from_environment
from finetune.jobs import TrainingJob, training_arguments
from finetune.training.settings import TrainingArguments
from improve.load_model import ModelSpec
from knowledge_bases.domains import load_domains
from reports.terminal import print_json
from reports.training import show_dry_run, show_training
from traces.choose import TraceUse, WantedRating


def train_command(
    name: Annotated[
        list[str],
        typer.Argument(
            metavar="DOMAIN...", help="Domains; with `--recipe` a name for what it makes."
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", envvar="BENCH_MODEL", help="What to teach.")
    ] = DEFAULT_MODEL,
    recipe: Annotated[
        Path | None, typer.Option(help="What is mixed and how it is trained: a YAML file.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            help="KEY=VALUE, a setting of the training or a stage (`dpo.beta=0.2`); wins over the "
            "recipe.",
        ),
    ] = None,
    stages: Annotated[
        str | None,
        typer.Option(help="One after the other: `sft,dpo`, `sft,rloo`. [default: the recipe's]"),
    ] = None,
    data_set: Annotated[
        str | None, typer.Option(help="The prepared data set, where it has a name of its own.")
    ] = None,
    traces: Annotated[
        list[str] | None,
        typer.Option(
            help="KEY=VALUE: learn from the workspace's traces, those of a `rating`, `unmarked`, "
            "`solved`; `hold_out=0.2` makes questions of a share of them.",
        ),
    ] = None,
    budget_minutes: BudgetMinutes = None,
    rows: Rows = None,
    own: Annotated[
        bool | None,
        typer.Option(
            "--own/--all",
            help="Keep and watch other knowledge with the domains' own questions only. "
            "[default: --own for tiny]",
            show_default=False,
        ),
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be trained on, and what it takes.")
    ] = False,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    workspace: WorkspaceOption = WORKSPACE,
    data: Data = None,
    print_config: PrintConfig = False,
    as_json: Json = False,
) -> None:
    """Train an adapter for each domain, and publish it.

    Prepared rows are mixed with what the model knows already; where not all fit into the budget,
    those are chosen that are nearest to what the model gets wrong. Validation questions say when
    it has learned enough, and whether a protected domain falls. An interrupted training goes on
    when its command is repeated.

    Example: bench train biology --model tiny
    """
    if print_config:
        print(config_text("train", locals()), end="")
        return
    if len(name) > 1 and (recipe is not None or data_set is not None):
        raise Misuse("`--recipe` and `--data-set` are for one adapter", "train one after another")
    if traces is not None and (len(name) > 1 or data_set is not None):
        what = "`--traces` makes the data set of one adapter"
        raise Misuse(what, f"`bench train {name[0]}` without `--data-set`")
    use = _trace_use(traces) if traces is not None else None
    domains = load_domains(workspace)
    only = own if own is not None else model == TINY
    loading = ModelSpec(model, device, dtype)
    jobs = []
    for each in name:
        mixed = Recipe({each: 1.0}) if recipe is None else read_recipe(recipe, TrainingArguments)
        mixed, changes = with_stages(mixed, stages, change if change is not None else ())
        settings = training_arguments(mixed, changes)
        names = {each: data_set} if data_set is not None else {}
        bounds = settings.budget(budget_minutes, rows)
        jobs.append(
            TrainingJob(each, mixed, settings, workspace, domains, names, data, only, bounds)
        )
    counts = {}
    if use is not None and from_environment().is_main:
        if name[0] not in jobs[0].recipe.proportions:
            what = f"the recipe has no `{name[0]}`, and the traces are its rows"
            raise Misuse(what, f"give `{name[0]}` a share in its `proportions`")
        jobs[0], learned = learn_traces(jobs[0], use, model, as_json=as_json)
        counts = {"traces": learned}
    if dry_run:
        _dry_run(jobs, loading, counts, as_json=as_json)
    else:
        _train(jobs, loading, counts, as_json=as_json)


def _trace_use(texts: Sequence[str]) -> TraceUse:
    given: dict[str, Any] = dict(read_setting(text, TraceUse, "--traces") for text in texts)
    return TraceUse(**{**given, "rating": WantedRating(given.get("rating", WantedRating.NOT_BAD))})


def _dry_run(
    jobs: Sequence[TrainingJob], loading: ModelSpec, counts: dict[str, Any], *, as_json: bool
) -> None:
    if not from_environment().is_main:
        return
    need_local()
    from finetune.dry_run import dry_run

    for job in jobs:
        result = dry_run(job, loading.model, loading.device, loading.dtype)
        if as_json:
            print_json({**result.as_json(), **counts})
        else:
            show_dry_run(result)


def _train(
    jobs: Sequence[TrainingJob], loading: ModelSpec, counts: dict[str, Any], *, as_json: bool
) -> None:
    need_local()
    from improve.training_run import train_with_progress

    for job in jobs:
        result = train_with_progress(job, loading)
        if from_environment().is_main:
            if as_json:
                print_json({**result.as_json(), **counts})
            else:
                show_training(result)
    destroy()
