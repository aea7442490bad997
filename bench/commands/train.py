"""`bench train`: teach a model a domain, and watch that it forgets nothing."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.options import WORKSPACE, Data, Device, Json, WorkspaceOption
from domainlift.errors import Interrupted, Misuse
from improve.load_model import ModelSpec, load_trainable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from finetune.data.recipe import Recipe
    from finetune.hyperparameter_search import SearchResult
    from finetune.jobs import TrainingJob
    from finetune.replay_questions import TrainingDomains
    from finetune.train_adapter import TrainingResult
    from finetune.train_jointly import JointResult
    from finetune.training.settings import TrainingArguments
    from finetune.training.train_result import TrainingProgress as Step
    from finetune.validation import ValidationScores
    from reports.progress import ProgressBar


def train_command(
    name: Annotated[
        list[str],
        typer.Argument(
            metavar="DOMAIN...", help="Domains; with `--recipe` a name for what it makes."
        ),
    ],
    model: Annotated[
        str, typer.Option("--model", "-m", envvar="BENCH_MODEL", help="What to teach.")
    ] = "qwen2.5:3b",
    recipe: Annotated[
        Path | None, typer.Option(help="What is mixed and how it is trained: a YAML file.")
    ] = None,
    change: Annotated[
        list[str] | None,
        typer.Option("--set", help="KEY=VALUE, a setting of the training; wins over the recipe."),
    ] = None,
    rows: Annotated[
        str | None,
        typer.Option(help="The prepared data set, where it has a name of its own."),
    ] = None,
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
    trials: Annotated[
        int | None,
        typer.Option("--search", min=1, help="Try so many settings, and keep the best adapter."),
    ] = None,
    together: Annotated[
        bool, typer.Option("--together", help="Several domains in one pass.")
    ] = False,
    device: Device = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    workspace: WorkspaceOption = WORKSPACE,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Train an adapter for each domain, and publish it.

    Prepared rows are mixed with what the model knows already. Validation questions say when it
    has learned enough, and whether a protected domain falls. An interrupted training goes on
    when its command is repeated.

    Example: bench train biology --model tiny
    """
    from engines.registry import TINY
    from finetune.data.recipe import one_domain
    from finetune.distributed.process_group import from_environment
    from finetune.jobs import TrainingJob, training_domains
    from knowledge_bases.domains import load_domains

    if trials is not None and from_environment().size > 1:
        raise Misuse("a search runs in one process", "leave the launcher out, or `--search`")
    if together and (trials is not None or recipe is not None):
        raise Misuse("`--together` goes with neither `--search` nor `--recipe`", "leave one out")
    if len(name) > 1 and (recipe is not None or rows is not None):
        raise Misuse("`--recipe` and `--rows` are for one adapter", "train one after another")
    domains = load_domains(workspace)
    only = own if own is not None else model == TINY
    jobs = []
    for each in name:
        mixed = _recipe(recipe) if recipe is not None else one_domain(each)
        sets = {each: rows} if rows is not None else {}
        wish = TrainingJob(each, mixed, settings_of(mixed, change), workspace, sets, data, only)
        jobs.append((wish, training_domains(wish, domains)))
    if dry_run:
        _dry_run(jobs, ModelSpec(model, device, dtype), as_json=as_json)
    elif together:
        _train_together(jobs, ModelSpec(model, device, dtype), as_json=as_json)
    else:
        _train(jobs, ModelSpec(model, device, dtype), trials, as_json=as_json)


_Job = tuple["TrainingJob", "TrainingDomains"]


def _recipe(path: Path) -> Recipe:
    from finetune.data.recipe import read_recipe
    from finetune.training.settings import TrainingArguments

    return read_recipe(path, TrainingArguments)


def settings_of(recipe: Recipe, changes: Sequence[str] | None) -> TrainingArguments:
    """The settings of a recipe, with those that the user changed."""
    from finetune.data.recipe import read_setting
    from finetune.training.settings import TrainingArguments

    changed = dict(read_setting(text, TrainingArguments) for text in (changes if changes else ()))
    found: dict[str, Any] = {**recipe.training, **changed}
    return TrainingArguments(**found)


def _dry_run(jobs: Sequence[_Job], loading: ModelSpec, *, as_json: bool) -> None:
    from finetune.distributed.process_group import from_environment
    from finetune.dry_run import dry_run

    if not from_environment().is_main:
        return
    for wish, around in jobs:
        found = dry_run(wish, around, loading.model, loading.device, loading.dtype)
        if as_json:
            print(json.dumps(found.as_json(), ensure_ascii=False))
        else:
            from reports.training import show_dry_run

            show_dry_run(found)


def _train(jobs: Sequence[_Job], loading: ModelSpec, trials: int | None, *, as_json: bool) -> None:
    from finetune.distributed.process_group import destroy, from_environment

    for wish, around in jobs:
        made: TrainingResult | SearchResult = (
            train_with_progress(wish, around, loading)
            if trials is None
            else _search_with_progress(wish, around, loading, trials)
        )
        if from_environment().is_main:
            _tell(made, as_json=as_json)
    destroy()


def _train_together(jobs: Sequence[_Job], loading: ModelSpec, *, as_json: bool) -> None:
    done = train_jointly_with_progress(jobs, loading)
    for made in done.made:
        _tell(made, as_json=as_json)
    for error in done.errors.values():
        raise error


def _tell(made: TrainingResult | SearchResult, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(made.as_json(), ensure_ascii=False), flush=True)
    else:
        from reports.training import show_training

        show_training(made)


def train_with_progress(
    wish: TrainingJob, around: TrainingDomains, loading: ModelSpec
) -> TrainingResult:
    """Train an adapter while the user watches."""
    from finetune.train_adapter import train_adapter

    engine = load_trainable(loading, wish.settings)
    with _progress() as screen:
        return train_adapter(wish, around, engine, screen.notify, screen.look(wish.name))


def train_jointly_with_progress(jobs: Sequence[_Job], loading: ModelSpec) -> JointResult:
    """Train the adapters of several domains in one pass while the user watches."""
    from finetune.multi_adapter.loop import refuse_unfit
    from finetune.train_jointly import train_adapters

    settings = jobs[0][0].settings
    refuse_unfit(settings)  # before a large model is loaded
    engine = load_trainable(loading, settings)
    with _progress() as screen:
        return train_adapters(jobs, engine, screen.notify, screen.look)


def _search_with_progress(
    wish: TrainingJob, around: TrainingDomains, loading: ModelSpec, trials: int
) -> SearchResult:
    from finetune.hyperparameter_search import search_hyperparameters

    engine = load_trainable(loading, wish.settings)
    with _progress() as screen:
        look = screen.look(wish.name)
        return search_hyperparameters(
            wish, around, engine, trials, screen.notify, look, screen.begin
        )


@contextmanager
def _progress() -> Iterator[_ProgressView]:
    """Show progress; Ctrl-C ends with the way on."""
    from finetune.distributed.process_group import from_environment
    from reports.progress import ProgressBar

    with ProgressBar(0) as progress:
        screen = _ProgressView(progress)
        try:
            yield screen
        except KeyboardInterrupt as error:
            if not from_environment().is_main:  # the first process says how far they came
                raise
            raise Interrupted(
                f"stopped after step {screen.step}",
                "repeat the same command: it goes on from the last checkpoint",
            ) from error


class _ProgressView:
    """What the user sees of trainings under way; `step` is the last one."""

    def __init__(self, progress: ProgressBar) -> None:
        self.step = 0
        self._progress = progress

    def notify(self, now: Step) -> None:
        self.step = now.step
        told = f"loss {now.loss:.3f}  {now.tokens_per_second:,.0f} tokens/s"
        self._progress.reach(now.step, now.steps, told)

    def look(self, name: str) -> Callable[[ValidationScores, int], None]:
        def look(seen: ValidationScores, step: int) -> None:
            told = "  ".join(f"{name} {value:.3f}" for name, value in seen.scores.items())
            fallen = f"  fallen: {', '.join(seen.regressed)}" if seen.regressed else ""
            self._progress.say(f"{name}, step {step}, validation: {told}{fallen}")

        return look

    def begin(self, number: int, settings: Mapping[str, Any]) -> None:
        told = ", ".join(f"{name} {value}" for name, value in settings.items())
        self._progress.say(f"trial {number}: {told}")
