"""`bench run`: score a model per domain."""

from __future__ import annotations

import json
import re
import shlex
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.options import WORKSPACE, Data, Json, Workspace
from domainlift.errors import BenchError, NoSuch

if TYPE_CHECKING:
    from benchmarks.profile import Profile
    from benchmarks.runner import Job, Settings
    from benchmarks.store import Run
    from benchmarks.tasks.base import Task
    from engines.base import Engine, Mode
    from engines.names import Options


def run(
    model: Annotated[
        str, typer.Option("--model", "-m", envvar="BENCH_MODEL", help="What to score.")
    ] = "qwen2.5:3b",
    suite: Annotated[
        str | None,
        typer.Option(
            help="demo, mmlu, full or a YAML file. [default: mmlu; demo for tiny]",
            show_default=False,
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(help="Tasks instead of a suite: a name, lm-eval:NAME, or a file."),
    ] = None,
    domains: Annotated[
        str | None, typer.Option(help="Only these domains, separated by commas.")
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="At most so many questions, spread over the domains.")
    ] = None,
    scoring: Annotated[
        str | None, typer.Option(help="letter, cloze or generate. [default: the task's own]")
    ] = None,
    shots: Annotated[
        int | None, typer.Option(min=0, help="Examples before a question. [default: the task's]")
    ] = None,
    chat: Annotated[
        bool, typer.Option("--chat/--no-chat", help="Put questions through the chat template.")
    ] = False,
    seed: Annotated[int, typer.Option(help="Of the sample, and of the server.")] = 0,
    target: Annotated[
        float, typer.Option(min=0.0, max=1.0, help="The accuracy that verdicts refer to.")
    ] = 0.60,
    resume: Annotated[
        str | None, typer.Option(help="Go on with this run; its settings must fit.")
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", help="Start a new run beside a stored one.")] = (
        False
    ),
    workspace: Workspace = WORKSPACE,
    data: Data = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps (in-process).")] = "auto",
    dtype: Annotated[
        str, typer.Option(help="auto, float32, bfloat16 or float16 (in-process).")
    ] = "auto",
    batch_tokens: Annotated[
        int | None, typer.Option(min=1, help="Tokens in a batch (in-process). [default: by memory]")
    ] = None,
    context: Annotated[
        int | None, typer.Option(min=256, help="num_ctx of Ollama. [default: 4096]")
    ] = None,
    concurrency: Annotated[
        int, typer.Option(min=1, help="Requests at a time (OpenAI-compatible servers).")
    ] = 8,
    timeout: Annotated[float, typer.Option(help="Seconds for one request to a server.")] = 300.0,
    as_json: Json = False,
) -> None:
    """Score a model per domain.

    An unfinished run goes on when its command is repeated.

    Example: bench run --model tiny --suite demo
    """
    from benchmarks.runner import Settings
    from engines.names import TINY, Options

    named = suite if suite is not None else ("demo" if model == TINY else "mmlu")
    settings = Settings(
        suite="tasks" if task else named,
        mode=_mode(scoring),
        shots=shots,
        chat=chat,
        limit=limit,
        seed=seed,
        command=_command(sys.argv[1:]),
        domains=tuple(filter(None, map(str.strip, (domains or "").split(",")))),
    )
    options = Options(device, dtype, batch_tokens, context, seed, timeout, concurrency)
    profile = _score(model, options, settings, task, _Where(workspace, data, resume, fresh, target))
    if as_json:
        print(json.dumps(profile.as_json(), ensure_ascii=False))
    else:
        from reports.profile import show

        show(profile)
    _fail_on_errors(profile)


@dataclass(frozen=True)
class _Where:
    """Where a run is kept and which one it is."""

    workspace: Path
    data: Path | None
    resume: str | None
    fresh: bool
    target: float


def _score(
    model: str,
    options: Options,
    settings: Settings,
    names: Sequence[str] | None,
    where: _Where,
) -> Profile:
    from benchmarks.choice import choose_tasks
    from engines.names import is_served, open_engine
    from knowledge_bases.domains import load_domains

    domains = load_domains(where.workspace)
    for name in settings.domains:
        if name not in domains:
            raise NoSuch("domain", name, domains, "bench domains")
    # A server that does not answer says so at once; a model in this process takes its time, and
    # is loaded only for tasks that are there.
    engine = open_engine(model, options) if is_served(model) else None
    try:
        tasks, settings = choose_tasks(names, settings, domains, where.data)
        if engine is None:
            engine = open_engine(model, options)
        return _profile(tasks, settings, engine, where)
    finally:
        if engine is not None:
            engine.close()


def _profile(tasks: Sequence[Task], settings: Settings, engine: Engine, where: _Where) -> Profile:
    """Find or make the run, ask what is open in it, and score it."""
    from benchmarks.profile import profile
    from benchmarks.runner import open_run, prepare, substitutions
    from benchmarks.store import Store

    job = prepare(tasks, settings, engine.info)
    store = Store(where.workspace)
    run = open_run(job, engine.info, store, fresh=where.fresh, resume=where.resume)
    said = engine.info.notes
    _say_notes([*said, *substitutions(job, engine.info)])
    if run.manifest.finished:
        print(
            f"note: this is the stored run `{run.manifest.run}` of {run.manifest.created}; "
            "`--fresh` asks anew",
            file=sys.stderr,
        )
    else:
        _execute(job, engine, run)
        # A server may show only when asked what it cannot do.
        _say_notes(note for note in engine.info.notes if note not in said)
    return profile(run, where.target)


def _say_notes(notes: Iterable[str]) -> None:
    from reports.terminal import printable

    for note in notes:
        print(f"note: {printable(note)}", file=sys.stderr)


def _execute(job: Job, engine: Engine, run: Run) -> None:
    """Ask what is open, showing progress; Ctrl-C ends with the way on."""
    from bench.progress import Progress, duration
    from benchmarks.runner import execute

    before = sum(record.status != "error" for record in run.records())
    asked = 0
    try:
        with Progress(len(job.questions), before) as progress:

            def notify(record: object) -> None:
                nonlocal asked
                asked += 1
                progress.step(record.domain)  # type: ignore[attr-defined]

            execute(job, engine, run, notify)
    except KeyboardInterrupt as error:
        stopped = BenchError(
            f"stopped; {before + asked} of {len(job.questions)} answers are stored",
            f"repeat the same command with `--resume {run.folder.name}`: "
            "it goes on where it stopped",
        )
        stopped.exit_code = 130
        raise stopped from error
    seconds = run.manifest.seconds
    skipped = f" ({before} were stored before)" if before else ""
    rate = f", {len(job.questions) / seconds:.3g}/s" if seconds else ""
    print(
        f"Scored {len(job.questions)} questions in {duration(seconds)}{rate}{skipped}",
        file=sys.stderr,
    )


def _command(argv: Sequence[str]) -> str:
    """The command for the record; a name and password in a URL are nobody's business."""
    return re.sub(r"(https?://)[^/@\s]+@", r"\1", shlex.join(["bench", *argv]))


def _mode(name: str | None) -> Mode | None:
    from engines.base import Mode

    if name is None:
        return None
    if name not in set(Mode):
        raise NoSuch("way of scoring", name, [mode.value for mode in Mode])
    return Mode(name)


def _fail_on_errors(profile: Profile) -> None:
    """Errors are a failure of the command, however good the rest is."""
    errors, n = profile.overall.errors, profile.overall.n
    if errors or profile.missing:
        total = n + errors + profile.overall.truncated + profile.missing
        raise BenchError(
            f"{errors + profile.missing} of {total} questions have no answer; the scores cover {n}",
            f"repeat the same command with `--resume {profile.run}`: it asks only those again",
        )
