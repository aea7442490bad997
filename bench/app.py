"""`bench`: the commands, and the one place where errors become sentences and exit codes.

0 done · 1 it failed, or a part of it did · 2 the command is wrong · 130 stopped by Ctrl-C
"""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from itertools import zip_longest
from typing import Annotated

import typer

from bench.commands.adapters import adapters
from bench.commands.compare import compare_command
from bench.commands.data import data
from bench.commands.doctor import doctor
from bench.commands.domains import domains
from bench.commands.export import export_command
from bench.commands.improve import demo, improve_command
from bench.commands.kb import kb
from bench.commands.route import route
from bench.commands.run import run
from bench.commands.runs import runs
from bench.commands.train import train_command
from bench.options import ALL
from domainlift import __version__
from domainlift.errors import BenchError, Misuse
from domainlift.text.display import printable

app = typer.Typer(
    name="bench",
    help="Find the domains in which a language model is weak, and prove what lifts them.\n\n"
    "Example: bench run --model tiny --suite demo",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.command()(demo)
app.command()(run)
app.command("improve")(improve_command)
app.command("compare")(compare_command)
app.command()(domains)
app.add_typer(kb, name="kb")
app.add_typer(data, name="data")
app.command("train")(train_command)
app.add_typer(adapters, name="adapters")
app.command("export")(export_command)
app.add_typer(runs, name="runs")
app.add_typer(route, name="route")
app.command()(doctor)


_STOPPED = 130
_BARE = frozenset({"--rag"})


def _version(wanted: bool) -> None:
    if wanted:
        print(f"domainlift {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_version, is_eager=True)
    ] = False,
    debug: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error. [env: BENCH_DEBUG]")
    ] = False,
) -> None:
    """Options before the command; `--debug` is understood anywhere (see `main`)."""


def entry() -> None:
    """The console script; its output is UTF-8 everywhere, as JSON is."""
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(encoding="utf-8", errors="backslashreplace")
    sys.exit(main(sys.argv[1:]))


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code."""
    debug = "--debug" in argv or bool(os.environ.get("BENCH_DEBUG"))
    try:
        words = _with_values([word for word in argv if word != "--debug"])
        _refuse_launcher(words)
        result = app(words, prog_name="bench", standalone_mode=False)
        # What is still in the buffer may meet a closed pipe, which must happen here.
        sys.stdout.flush()
        if result == _STOPPED:
            return _say("stopped", None, _STOPPED)
        return result if isinstance(result, int) else 0
    except BenchError as error:
        if debug:
            raise
        return _say(error.what, error.hint, error.exit_code)
    except typer.TyperException as error:
        return _parser_says(error)
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except KeyboardInterrupt:
        return _say("stopped", None, _STOPPED)
    except Exception as error:
        if debug:
            raise
        first = (str(error).splitlines() or [""])[0]
        return _say(
            f"unexpected {type(error).__name__}: {first}",
            "this is a fault of bench; add `--debug` to see where it happened",
            1,
        )


def _refuse_launcher(words: Sequence[str]) -> None:
    """Several processes with the same command would do the same work, and write over it."""
    from finetune.distributed.process_group import from_environment

    command = next((word for word in words if not word.startswith("-")), "train")
    if from_environment().size > 1 and command != "train" and "--help" not in words:
        raise Misuse(
            f"`bench {command}` runs in one process, and a launcher has started several",
            "leave it out (it sets WORLD_SIZE): `bench train` alone shares its work",
        )


def _with_values(words: Sequence[str]) -> list[str]:
    """Give `--rag` without a value the one that it stands for, which the parser cannot."""
    made: list[str] = []
    for word, after in zip_longest(words, words[1:]):
        made.append(word)
        if word in _BARE and (after is None or after.startswith("-")):
            made.append(ALL)
    return made


def _parser_says(error: typer.TyperException) -> int:
    message = error.format_message()
    if message.startswith("Usage:"):
        print(message, file=sys.stderr)
        return 2
    command = getattr(getattr(error, "ctx", None), "command_path", "bench")
    what = message[:1].lower() + message[1:].rstrip(".")
    return _say(what, f"`{command} --help` shows what it takes", 2)


def _say(what: str, hint: str | None, code: int) -> int:
    print(f"error: {printable(what, ' ')}", file=sys.stderr)
    if hint is not None:
        print(f"\nhint: {printable(hint, ' ')}", file=sys.stderr)
    return code
