"""Options that several commands share."""

from __future__ import annotations

import inspect
import shlex
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer
from typer.core import TyperCommand, TyperOption

from domainlift.hints import name_workspace
from domainlift.text.display import without_credentials
from engines.registry import SMOLLM2, TINY
from finetune.training.settings import DEFAULT_MINUTES
from traces.choose import WantedRating

WorkspaceOption = Annotated[
    Path,
    typer.Option(
        "--workspace", envvar="BENCH_WORKSPACE", help="Where everything is kept.", show_default=True
    ),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="BENCH_DATA", help="A local mirror of the data sets."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

Suite = Annotated[
    str | None,
    typer.Option(
        "--suite",
        help="demo, handbook, mmlu, full or a YAML file. [default: mmlu; the embedded models have "
        "their own: handbook for smollm2, demo for tiny]",
        show_default=False,
    ),
]
Tasks = Annotated[
    list[str] | None,
    typer.Option("--task", help="Tasks instead of a suite: a name, lm-eval:NAME, or a file."),
]
Domains = Annotated[
    str | None, typer.Option("--domains", help="Only these domains, separated by commas.")
]
Limit = Annotated[
    int | None,
    typer.Option("--limit", min=1, help="At most so many questions, spread over the domains."),
]
Device = Annotated[str, typer.Option("--device", help="auto, cpu, cuda or mps (in-process).")]

BudgetMinutes = Annotated[
    float | None,
    typer.Option(
        "--budget-minutes",
        min=0.01,
        help="So many minutes of training per domain; rows and passes are chosen to fit. "
        f"[default: {DEFAULT_MINUTES:g}; none with `--rows` or `--set steps=N`]",
        show_default=False,
    ),
]
Rows = Annotated[
    int | None,
    typer.Option("--rows", min=1, help="Train each domain on so many rows, the most useful ones."),
]

PrintConfig = Annotated[
    bool,
    typer.Option(
        "--print-config", help="Print the file for `bench experiment run` that this amounts to."
    ),
]

TraceRating = Annotated[WantedRating, typer.Option("--rating", help="Of the traces that are used.")]
Unmarked = Annotated[bool, typer.Option("--unmarked", help="Only traces that no rule has marked.")]
Solved = Annotated[
    bool, typer.Option("--solved", help="Only traces whose check found the task solved.")
]

KeepReplies = Annotated[
    int,
    typer.Option(
        "--keep-replies",
        envvar="BENCH_KEEP_REPLIES",
        min=0,
        help="So many of the last replies can be marked (`bench feedback`); 0 keeps none.",
    ),
]

WORKSPACE = Path("workspace")
DEFAULT_MODEL = "qwen2.5:3b"
#: Suites of the embedded models: built-in questions, which need no data set.
EMBEDDED_SUITES = {TINY: "demo", SMOLLM2: "handbook"}
#: What an option stands for that may be given without a value, and which may.
ALL, BARE = "all", frozenset({"--rag"})


def suite_for(suite: str | None, model: str) -> str:
    """The suite that was named, or the one that a model is scored on by default."""
    return suite if suite is not None else EMBEDDED_SUITES.get(model, "mmlu")


_Function = TypeVar("_Function", bound=Callable[..., Any])


class _Command(TyperCommand):
    """A command that refuses an option given twice where only the last value would be taken.

    An option in `BARE` may stand without a value, which typer's parser cannot take. The workspace
    that is named stands in the commands that are printed.
    """

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        if any(BARE & {*param.opts} for param in self.params):
            args = _with_values(args)
        _, _, given = self.make_parser(ctx).parse_args(args=list(args))
        for param, count in Counter(each for each in given if not _may_be_repeated(each)).items():
            if count > 1:
                ctx.fail(f"Option '{param.opts[0]}' is given {count} times and takes one value.")
        rest: list[str] = super().parse_args(ctx, args)
        source = ctx.get_parameter_source("workspace")
        if source is not None and source.name == "COMMANDLINE":
            name_workspace(ctx.params["workspace"])
        return rest


def _with_values(words: Sequence[str]) -> list[str]:
    """The words of a command; where a value is left out before another option, with that value."""
    ends = [*words, "--"].index("--")
    made: list[str] = []
    for word, after in zip(words[:ends], [*words[1:], "-"], strict=False):
        made += [word, ALL] if word in BARE and after.startswith("-") else [word]
    return [*made, *words[ends:]]


def _may_be_repeated(param: Any) -> bool:
    """Whether all that is given counts: lists do, and a switch that has no opposite."""
    if not isinstance(param, TyperOption):
        return True
    return param.multiple or (bool(param.is_flag) and not param.secondary_opts)


class Commands(typer.Typer):
    """A group of commands; each takes its options once."""

    def command(  # type: ignore[override]
        self, name: str, help: str | None = None
    ) -> Callable[[_Function], _Function]:
        """Add a function under a name, as typer's does; lists show its whole first sentence."""

        def add(function: _Function) -> _Function:
            text = help if help is not None else inspect.getdoc(function) or ""
            first = " ".join(text.partition("\n\n")[0].split())
            made = super(Commands, self).command(name, cls=_Command, help=help, short_help=first)
            return made(function)

        return add


def command_group(text: str) -> Commands:
    """Commands under one name, which by itself prints their list."""
    return Commands(help=text, no_args_is_help=True, rich_markup_mode=None)


def comma_separated(text: str | None) -> tuple[str, ...]:
    """The names of an option that takes several, separated by commas."""
    return tuple(filter(None, map(str.strip, (text if text is not None else "").split(","))))


def command_line(argv: Sequence[str]) -> str:
    """The command for the record; credentials in URLs are removed."""
    return without_credentials(shlex.join(["bench", *argv]))
