"""`bench train`: teach a model a domain, and watch that it forgets nothing."""

from __future__ import annotations

import json
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from bench.options import WORKSPACE, Data, Device, Json, Workspace
from domainlift.errors import BenchError, Misuse
from improve.load_model import Loading, opened

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping, Sequence

    from finetune.data.recipe import Recipe
    from finetune.hyperparameter_search import Searched
    from finetune.jobs import Wish
    from finetune.replay_questions import Surroundings
    from finetune.train_adapter import Made
    from finetune.train_jointly import Published
    from finetune.training.settings import Training
    from finetune.training.train_result import Progress as Step
    from finetune.validation import Seen
    from reports.progress import Progress


def train(
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
    workspace: Workspace = WORKSPACE,
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
    from finetune.distributed.process_group import launched
    from finetune.jobs import Wish, surroundings
    from knowledge_bases.domains import load_domains

    if trials is not None and launched().size > 1:
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
        wish = Wish(each, mixed, settings_of(mixed, change), workspace, sets, data, only)
        jobs.append((wish, surroundings(wish, domains)))
    if dry_run:
        _rehearse(jobs, Loading(model, device, dtype), as_json=as_json)
    elif together:
        _train_together(jobs, Loading(model, device, dtype), as_json=as_json)
    else:
        _train(jobs, Loading(model, device, dtype), trials, as_json=as_json)


_Job = tuple["Wish", "Surroundings"]


def _recipe(path: Path) -> Recipe:
    from finetune.data.recipe import read_recipe
    from finetune.training.settings import Training

    return read_recipe(path, Training)


def settings_of(recipe: Recipe, changes: Sequence[str] | None) -> Training:
    """The settings of a recipe, with those that the user changed."""
    from finetune.data.recipe import read_setting
    from finetune.training.settings import Training

    changed = dict(read_setting(text, Training) for text in (changes if changes else ()))
    found: dict[str, Any] = {**recipe.training, **changed}
    return Training(**found)


def _rehearse(jobs: Sequence[_Job], loading: Loading, *, as_json: bool) -> None:
    from finetune.distributed.process_group import launched
    from finetune.dry_run import rehearse

    if not launched().leads:
        return
    for wish, around in jobs:
        found = rehearse(wish, around, loading.model, loading.device, loading.dtype)
        if as_json:
            print(json.dumps(found.as_json(), ensure_ascii=False))
        else:
            from reports.training import show_rehearsal

            show_rehearsal(found)


def _train(jobs: Sequence[_Job], loading: Loading, trials: int | None, *, as_json: bool) -> None:
    from finetune.distributed.process_group import launched, leave

    for wish, around in jobs:
        made: Made | Searched = (
            taught(wish, around, loading)
            if trials is None
            else _searched(wish, around, loading, trials)
        )
        if launched().leads:
            _tell(made, as_json=as_json)
    leave()


def _train_together(jobs: Sequence[_Job], loading: Loading, *, as_json: bool) -> None:
    done = taught_together(jobs, loading)
    for made in done.made:
        _tell(made, as_json=as_json)
    for error in done.errors.values():
        raise error


def _tell(made: Made | Searched, *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(made.as_json(), ensure_ascii=False), flush=True)
    else:
        from reports.training import show

        show(made)


def taught(wish: Wish, around: Surroundings, loading: Loading) -> Made:
    """Train an adapter while the user watches."""
    from finetune.train_adapter import train_adapter

    engine = opened(loading, wish.settings)
    with _watching() as screen:
        return train_adapter(wish, around, engine, screen.notify, screen.look(wish.name))


def taught_together(jobs: Sequence[_Job], loading: Loading) -> Published:
    """Train the adapters of several domains in one pass while the user watches."""
    from finetune.multi_adapter.loop import refuse_unfit
    from finetune.train_jointly import train_adapters

    settings = jobs[0][0].settings
    refuse_unfit(settings)  # before a large model is loaded
    engine = opened(loading, settings)
    with _watching() as screen:
        return train_adapters(jobs, engine, screen.notify, screen.look)


def _searched(wish: Wish, around: Surroundings, loading: Loading, trials: int) -> Searched:
    from finetune.hyperparameter_search import search

    engine = opened(loading, wish.settings)
    with _watching() as screen:
        look = screen.look(wish.name)
        return search(wish, around, engine, trials, screen.notify, look, screen.begin)


@contextmanager
def _watching() -> Iterator[_Screen]:
    """Show progress; Ctrl-C ends with the way on."""
    from finetune.distributed.process_group import launched
    from reports.progress import Progress

    with Progress(0) as progress:
        screen = _Screen(progress)
        try:
            yield screen
        except KeyboardInterrupt as error:
            if not launched().leads:  # the first process says how far they came
                raise
            stopped = BenchError(
                f"stopped after step {screen.step}",
                "repeat the same command: it goes on from the last checkpoint",
            )
            stopped.exit_code = 130
            raise stopped from error


class _Screen:
    """What the user sees of trainings under way; `step` is the last one."""

    def __init__(self, progress: Progress) -> None:
        self.step = 0
        self._progress = progress

    def notify(self, now: Step) -> None:
        self.step = now.step
        told = f"loss {now.loss:.3f}  {now.tokens_per_second:,.0f} tokens/s"
        self._progress.reach(now.step, now.steps, told)

    def look(self, name: str) -> Callable[[Seen, int], None]:
        def look(seen: Seen, step: int) -> None:
            told = "  ".join(f"{name} {value:.3f}" for name, value in seen.scores.items())
            fallen = f"  fallen: {', '.join(seen.fallen)}" if seen.fallen else ""
            self._progress.say(f"{name}, step {step}, validation: {told}{fallen}")

        return look

    def begin(self, number: int, settings: Mapping[str, Any]) -> None:
        told = ", ".join(f"{name} {value}" for name, value in settings.items())
        self._progress.say(f"trial {number}: {told}")
