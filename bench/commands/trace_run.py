"""`bench trace run`: an agent does tasks with tools, and each trace is recorded."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.trace_review import damaged_note
from bench.options import WORKSPACE, Json, WorkspaceOption, comma_separated
from domainlift.errors import BenchError, Malformed, Misuse
from domainlift.stats.formatting import percent
from engines.registry import EngineOptions
from engines.servers.openai import open_endpoint
from reports.progress import ProgressBar
from reports.terminal import print_json, print_line, print_note
from traces.agent import AgentLimits
from traces.mcp_tools import CallLimits, tool_sessions
from traces.recording import Collected, CollectSettings, collect_traces, find_work
from traces.store import TraceStore
from traces.tasks import read_agent_tasks
from traces.trace import TraceStatus


def trace_run_command(
    tasks: Annotated[
        Path,
        typer.Argument(help="A file of questions, answers optional; a .txt has a task per line."),
    ],
    model: Annotated[
        str,
        typer.Option(
            "--model", "-m", envvar="BENCH_MODEL", help="A server: http://host:port/v1#name."
        ),
    ],
    mcp: Annotated[
        list[str] | None,
        typer.Option(help="A server of tools: its command in one text, or its URL; several."),
    ] = None,
    tools: Annotated[
        str | None, typer.Option(help="Only these tools, separated by commas. [default: all]")
    ] = None,
    system: Annotated[str, typer.Option(help="The system prompt, or a file that holds it.")] = "",
    samples: Annotated[int, typer.Option(min=1, help="Traces of each task.")] = 1,
    temperature: Annotated[
        float, typer.Option(min=0.0, max=2.0, help="Several samples need one above 0.")
    ] = 0.0,
    limit: Annotated[int | None, typer.Option(min=1, help="Only so many tasks.")] = None,
    max_steps: Annotated[int, typer.Option(min=1, help="Most replies of the model.")] = 25,
    max_tokens: Annotated[
        int | None, typer.Option(min=1, help="Most tokens of a reply. [default: the server's]")
    ] = None,
    max_result: Annotated[
        int, typer.Option(min=1, help="Most characters of a result; the rest is left out.")
    ] = 10_000,
    tool_timeout: Annotated[float, typer.Option(min=0.1, help="Seconds of a call.")] = 60.0,
    timeout: Annotated[float, typer.Option(min=0.1, help="Seconds of a reply.")] = 300.0,
    parallel: Annotated[int, typer.Option(min=1, help="So many tasks at once.")] = 1,
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Have an agent do tasks with the tools of MCP servers, and record each trace as it happens.

    Tasks that have a trace of the same model, system prompt and tools are skipped. Each task has
    servers of its own.

    Example: bench trace run tasks.jsonl --model http://127.0.0.1:8000/v1#auto --mcp "npx -y SERVER"
    """
    if samples > 1 and not temperature:
        raise Misuse("all samples of temperature 0 are one", "for instance `--temperature 0.7`")
    if not model.startswith(("http://", "https://")):
        hint = "`bench serve --model NAME` serves it; then `--model http://127.0.0.1:8000/v1#auto`"
        raise Misuse(f"`{model}` is no URL of a server", hint)
    questions = read_agent_tasks(tasks)[:limit]
    prompt, store = _text_or_file(system), TraceStore(workspace)
    limits, calls = AgentLimits(max_steps, max_tokens), CallLimits(tool_timeout, max_result)
    with (
        closing(open_endpoint(model, EngineOptions(timeout=timeout))) as engine,
        tool_sessions(mcp or (), comma_separated(tools), calls, print_note) as sessions,
    ):
        settings = CollectSettings(
            engine.info.model, prompt, samples, temperature, limits, parallel
        )
        with sessions.open() as toolbox:
            described = toolbox.tools
        work = find_work(questions, described, store.all(damaged_note()), settings)
        with ProgressBar(work.total, len(work.kept)) as progress:
            found = collect_traces(
                work, engine, sessions, store, settings, progress.step, engine.close
            )
    if as_json:
        print_json(found.as_json())
    else:
        for line in _lines(found):
            print_line(line)
    if errors := sum(trace.status is TraceStatus.ERROR for trace in found.traces):
        what = f"{errors} of {work.total} traces ended in an error"
        raise BenchError(what, "repeat the command: it does only those again")


def _text_or_file(system: str) -> str:
    path = Path(system)
    try:
        return path.read_text(encoding="utf-8").strip() if system and path.is_file() else system
    except UnicodeDecodeError as error:
        raise Malformed(path, "is not UTF-8") from error
    except (OSError, ValueError):  # too long for a name: a text
        return system


def _lines(found: Collected) -> Iterator[str]:
    told = found.as_json()
    counts = ", ".join(f"{told[each]:,} {each}" for each in map(str, TraceStatus) if told[each])
    skipped = f" ({found.skipped:,} were there before)" if found.skipped else ""
    yield f"{len(found.traces):,} traces: {counts}{skipped}"
    for why, number in found.reasons.most_common():
        yield f"  {number:,} × {why}"
    if found.checked:
        solved, n = told["solved"], told["checked"]
        low, high = found.interval
        share = f"{percent(solved / n)} %, 95 % interval {percent(low)} to {percent(high)}"
        yield f"solved {solved} of {n}: {share}"
