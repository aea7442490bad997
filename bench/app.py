"""`bench`: the commands, and the one place where errors become sentences and exit codes.

0 done · 1 it failed, or a part of it did · 2 the command is wrong · 130 stopped by Ctrl-C ·
143 stopped by SIGTERM, which is treated as Ctrl-C: 128 and the signal's number, as shells count
"""

from __future__ import annotations

import gc
import os
import signal
import sys
import threading
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from io import TextIOWrapper
from typing import Annotated, Any

import typer

from bench.heartbeat import heartbeat
from bench.options import Commands
from domainlift import __version__
from domainlift.errors import BenchError, Misuse
from domainlift.hints import name_workspace
from domainlift.registry import load_object
from domainlift.text.display import printable
from finetune.distributed.process_group import from_environment

#: Commands in the order of `bench --help`: where each is, and the first sentence of its help. Only
#: the module of the command that runs is imported, so that the others cost nothing.
COMMANDS: dict[str, tuple[str, str]] = {
    "demo": (
        "bench.commands.improve:demo",
        "Improve an embedded model on built-in documents: the whole loop in a few minutes.",
    ),
    "run": ("bench.commands.run:run", "Score a model per domain."),
    "improve": (
        "bench.commands.improve:improve_command",
        "Find weak domains, treat them, and prove what got better.",
    ),
    "compare": (
        "bench.commands.compare:compare_command",
        "Compare runs question by question; the first is the baseline.",
    ),
    "check": (
        "bench.commands.check:check_plan_command",
        "Compare a plan with a baseline, and exit with 1 where a domain is shown to have dropped.",
    ),
    "domains": ("bench.commands.domains:domains", "List all domains."),
    "kb": ("bench.commands.kb:kb", "Build, search and measure knowledge bases."),
    "exam": ("bench.commands.exam:exam", "Show and edit the exams made of documents."),
    "data": ("bench.commands.data:data", "Prepare, check and push training data."),
    "train": (
        "bench.commands.train:train_command",
        "Train an adapter for each domain, and publish it.",
    ),
    "adapters": ("bench.commands.adapters:adapters", "List, show and remove trained adapters."),
    "export": (
        "bench.commands.export:export_command",
        "Write an adapter for the place where models are run, and check that it answers as before.",
    ),
    "runs": ("bench.commands.runs:runs", "List, show and remove stored runs."),
    "route": ("bench.commands.route:route", "Fit, explain and test the router."),
    "versions": (
        "bench.commands.versions:versions",
        "List, compare, promote and roll back the versions of what is served.",
    ),
    "watch": (
        "bench.commands.watch:watch_command",
        "Look at what has changed since the last version, and do what follows.",
    ),
    "ask": (
        "bench.commands.ask:ask_command",
        "Answer a question by a plan, and show what the answer comes from.",
    ),
    "chat": (
        "bench.commands.chat:chat_command",
        "Talk with the assistant of a plan; /help lists what else can be typed.",
    ),
    "serve": ("bench.commands.serve:serve_command", "Serve a plan as an OpenAI-compatible API."),
    "feedback": (
        "bench.commands.feedback:feedback",
        "Mark answers as right or wrong, and learn from corrections.",
    ),
    "trace": (
        "bench.commands.trace:trace",
        "Record, clean, choose and exchange traces of agents with tools.",
    ),
    "ui": (
        "bench.commands.ui:ui_command",
        "Show pages on this machine: ask, compare runs, improve, search, edit exams.",
    ),
    "experiment": (
        "bench.commands.experiment:experiment",
        "Run a command and its options from one file.",
    ),
    "doctor": ("bench.commands.doctor:doctor", "Show versions, devices, memory, models and data."),
}


def make_app(loaded: Collection[str] = COMMANDS) -> Commands:
    """The command line; commands that are not `loaded` only have a name and a sentence."""
    app = Commands(
        name="bench",
        help="Find the domains in which a language model is weak, and prove what lifts them.\n\n"
        "Example: bench run --model tiny --suite demo",
        add_completion=False,
        no_args_is_help=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_options)
    for name, (where, sentence) in COMMANDS.items():
        if name not in loaded:
            app.command(name, help=sentence)(_not_loaded)
            continue
        command: typer.Typer | Callable[..., Any] = load_object(where)
        if isinstance(command, typer.Typer):
            app.add_typer(command, name=name, short_help=sentence)
        else:
            app.command(name)(command)
    return app


def _not_loaded() -> None:
    """Stand for a command whose name is not in the command line that runs."""
    raise AssertionError("a command ran that was not loaded")


_STOPPED = 130
_TERMINATED = 128 + signal.SIGTERM


def _version(wanted: bool) -> None:
    if wanted:
        print(f"domainlift {__version__}")
        raise typer.Exit


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
    code = main(sys.argv[1:])
    # Else Python looks for cycles among millions of objects once more: seconds, after the result.
    gc.freeze()
    sys.exit(code)


def main(argv: Sequence[str]) -> int:
    """Run one command and return its exit code; SIGTERM is treated as Ctrl-C."""
    with _sigterm_as_ctrl_c() as terminated:
        code = _run(argv)
    return _TERMINATED if code == _STOPPED and terminated else code


@contextmanager
def _sigterm_as_ctrl_c() -> Iterator[list[int]]:
    """Raise KeyboardInterrupt at the first SIGTERM; yields the signals that came.

    The first alone: a launcher passes on what its workers have been sent already, and a second
    one would end the tidying that the first began. A SIGTERM that the parent ignores stays ignored.
    """
    received: list[int] = []

    def interrupt(number: int, _: object) -> None:
        received.append(number)
        if len(received) == 1:
            raise KeyboardInterrupt

    before = signal.getsignal(signal.SIGTERM)
    # Python lets the main thread alone set handlers.
    if before is signal.SIG_IGN or threading.current_thread() is not threading.main_thread():
        yield received
        return
    signal.signal(signal.SIGTERM, interrupt)
    try:
        yield received
    finally:
        signal.signal(signal.SIGTERM, before if before is not None else signal.SIG_DFL)


def _run(argv: Sequence[str]) -> int:
    debug = "--debug" in argv or bool(os.environ.get("BENCH_DEBUG"))
    try:
        words = [word for word in argv if word != "--debug"]
        command = next((word for word in words if not word.startswith("-")), "")
        _refuse_launcher(command, words)
        with heartbeat(f"bench {command}") if from_environment().is_main else nullcontext():
            app = make_app({command} & COMMANDS.keys())
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
        if _was_stopped(error):
            return _say("stopped", None, _STOPPED)
        if debug:
            raise
        first = (str(error).splitlines() or [""])[0]
        return _say(
            f"unexpected {type(error).__name__}: {first}",
            "this is a fault of bench; add `--debug` to see where it happened",
            1,
        )
    finally:
        name_workspace(None)


def _refuse_launcher(command: str, words: Sequence[str]) -> None:
    """Several processes with the same command would do the same work, and write over it."""
    if command in {"", "train"} or "--help" in words:
        return
    if from_environment().size > 1:
        raise Misuse(
            f"`bench {command}` runs in one process, and a launcher has started several",
            "leave it out (it sets WORLD_SIZE): `bench train` alone shares its work",
        )


def _parser_says(error: typer.TyperException) -> int:
    message = error.format_message()
    if message.startswith("Usage:"):
        print(message, file=sys.stderr)
        return 2
    command = getattr(getattr(error, "ctx", None), "command_path", "bench")
    what = message[:1].lower() + message[1:].rstrip(".")
    return _say(what, f"`{command} --help` shows what it takes", 2)


def _was_stopped(error: BaseException) -> bool:
    """Whether an error came of tidying up after Ctrl-C, as where `shutil` closes a folder twice."""
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt):
            return True
        seen = seen.__context__
    return False


def _say(what: str, hint: str | None, code: int) -> int:
    print(f"error: {printable(what, ' ')}", file=sys.stderr)
    if hint is not None:
        print(f"\nhint: {printable(hint, ' ')}", file=sys.stderr)
    return code
