"""`bench trace export|import`: traces to and from files of others."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from bench.commands.trace_review import counted, damaged_note
from bench.options import (
    WORKSPACE,
    Json,
    Solved,
    TraceRating,
    Unmarked,
    WorkspaceOption,
)
from domainlift.errors import NoSuch
from domainlift.text.display import printable
from reports.terminal import print_json, print_line
from traces.choose import TraceCriteria, WantedRating, chosen
from traces.export_files import export_traces
from traces.formats.registry import FORMATS
from traces.import_files import import_traces
from traces.store import TraceStore
from traces.trace import Trace

#: Problems of files that are named one by one.
_NAMED = 20


def trace_export_command(
    path: Annotated[Path, typer.Argument(metavar="FILE", help="Or a folder, for sessions.")],
    ids: Annotated[
        list[str] | None, typer.Argument(metavar="[ID...]", help="Only these. [default: all]")
    ] = None,
    to: Annotated[str, typer.Option(help=f"{', '.join(FORMATS)}.")] = "openai",
    rating: TraceRating = WantedRating.NOT_BAD,
    unmarked: Unmarked = False,
    solved: Solved = False,
    force: Annotated[bool, typer.Option("--force", help="Write over what is there.")] = False,
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Write traces to a file, with secrets masked; those that were dropped stay out.

    `openai` is a line of JSON per trace, `sessions` a folder with a file for each as the Hub shows
    them, `otel` OpenTelemetry's spans.

    Example: bench trace export traces.jsonl --rating good --unmarked
    """
    if to not in FORMATS:
        raise NoSuch("format", to, FORMATS)
    kept, left_out = chosen_traces(workspace, TraceCriteria(rating, unmarked, solved), ids)
    done = export_traces(kept, path, to, force=force)
    if as_json:
        row = {"traces": done.traces, "masked": done.masked, "left_out": left_out}
        print_json({**row, "files": [str(file) for file in done.files]})
        return
    print_line(f"{done.traces:,} trace{'' if done.traces == 1 else 's'} in {path}")
    if done.masked:
        print_line(f"secrets masked: {counted(done.masked)}")
    if left_out:
        print_line(f"left out: {counted(left_out)}")


def trace_import_command(
    path: Annotated[Path, typer.Argument(help="A file, or a folder of files.")],
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Take over the traces of files; their format is found, and what is there already is skipped.

    OpenAI's messages (`messages`, `tools`), session traces of the Hub, and OpenTelemetry's spans.

    Example: bench trace import traces.jsonl
    """
    done = import_traces(TraceStore(workspace), path, damaged_note())
    refused = [
        {"file": str(file), "line": problem.line, "what": problem.what}
        for file, problem in done.refused
    ]
    if as_json:
        row = {"imported": len(done.ids), "there": done.there, "refused": refused}
        print_json({**row, "ids": done.ids})
    else:
        for each in refused[:_NAMED]:
            print(printable(f"{each['file']}:{each['line']}: {each['what']}"))
        if len(refused) > _NAMED:
            print(f"… and {len(refused) - _NAMED:,} more")
        print(f"{len(done.ids):,} imported, {done.there:,} there already, {len(refused):,} refused")
    if not done.ids and not done.there:
        raise typer.Exit(1)


def chosen_traces(
    workspace: Path, criteria: TraceCriteria, ids: Iterable[str] | None = None
) -> tuple[list[Trace], Counter[str]]:
    """The traces of a workspace that meet the criteria, and the number of others by reason."""
    store, damaged = TraceStore(workspace), Counter[str]()
    wanted = [store.get(id_) for id_ in ids] if ids else store.all(damaged_note(damaged))
    kept, left_out = chosen(wanted, criteria)
    return kept, left_out + damaged
