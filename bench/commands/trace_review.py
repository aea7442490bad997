"""`bench trace list|show|edit|rate|drop`: traces before a person's eye."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.options import WORKSPACE, Json, WorkspaceOption
from domainlift.errors import Malformed, Misuse
from domainlift.text.display import one_line
from reports.terminal import print_json, print_line, print_note, print_table
from traces.edit import edited_messages, read_message_lines
from traces.marks import trace_marks
from traces.secrets import masked, masked_head
from traces.store import TraceStore
from traces.trace import Rating, Trace, TraceStatus

#: Characters of a result or a thought that are shown unless all are wished for.
_SHOWN = 1000
Ids = Annotated[list[str], typer.Argument(metavar="ID...", help="Ids of traces, or beginnings.")]


class SaidRating(StrEnum):
    """A rating as it is typed; `none` takes one back."""

    GOOD = "good"
    BAD = "bad"
    NONE = "none"

    @property
    def rating(self) -> Rating | None:
        """The rating of a trace."""
        return None if self is SaidRating.NONE else Rating(self)


def trace_list_command(
    status: Annotated[TraceStatus | None, typer.Option(help="Only those that ended so.")] = None,
    rating: Annotated[SaidRating | None, typer.Option(help="Only those rated so.")] = None,
    marked: Annotated[
        bool | None, typer.Option("--marked/--unmarked", help="Only those that a rule has marked.")
    ] = None,
    dropped: Annotated[
        bool, typer.Option("--dropped", help="Also those that were dropped.")
    ] = False,
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """List the traces, oldest first, with what rules have marked.

    Example: bench trace list --unmarked --rating good
    """
    traces = [
        trace
        for trace in TraceStore(workspace).all(damaged_note(), dropped=dropped)
        if status in (None, trace.status)
        and (rating is None or rating.rating is trace.rating)
        and marked in (None, bool(trace_marks(trace)))
    ]
    if as_json:
        print_json([_row(trace) for trace in traces])
        return
    columns = ("id", "model", "turns", "tools", "status", "rating", "solved", "marks", "task")
    print_table(columns, map(_cells, traces), right=("turns",))
    print_line(f"{len(traces):,} trace{'' if len(traces) == 1 else 's'}")


def trace_show_command(
    ids: Ids,
    every: Annotated[bool, typer.Option("--all", help="Long texts as a whole.")] = False,
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Show traces with their messages, calls and results; secrets are masked.

    Example: bench trace show 20261127-231502-5f0c2a
    """
    store = TraceStore(workspace)
    shown = [masked(store.get(id_)) for id_ in ids]
    if as_json:
        values = [{**_row(trace), **asdict(trace), "called": trace.called} for trace, _ in shown]
        print_json(values[0] if len(values) == 1 else values)
        return
    for trace, found in shown:
        for text, style in _lines(trace, None if every else _SHOWN):
            print_line(text.expandtabs(4), style, soft_wrap=True)
        if found:
            print_note(f"secrets are masked: {counted(found)}")


def trace_edit_command(
    id_: Annotated[str, typer.Argument(metavar="ID", help="Id of a trace, or its beginning.")],
    file: Annotated[
        Path | None, typer.Option(help="Messages, one line of JSON each. [default: your EDITOR]")
    ] = None,
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Change the messages of a trace, one line of JSON each; what was there stays in its file.

    Example: bench trace edit 20261127-231502-5f0c2a
    """
    store = TraceStore(workspace)
    trace = store.get(id_)
    draft = store.path(trace.id).with_suffix(".draft")
    messages = read_message_lines(file) if file is not None else edited_messages(trace, draft)
    if not messages:
        raise Misuse("no messages are left", f"bench trace drop {trace.id}")
    if messages == trace.messages:
        print(f"nothing was changed in {trace.id}")
    else:
        store.edit(trace.id, messages)
        print(f"edited {trace.id}: {len(messages)} messages")
    if file is None:
        draft.unlink(missing_ok=True)


def trace_rate_command(
    ids: Ids,
    rating: Annotated[SaidRating, typer.Argument(help="good, bad, or none to take it back.")],
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Say what you think of traces; the last word counts.

    Example: bench trace rate 20261127-231502-5f0c2a good
    """
    store = TraceStore(workspace)
    for id_ in _found(store, ids):
        store.rate(id_, rating.rating)
        print(f"rated {id_}: {rating}")


def trace_drop_command(
    ids: Ids,
    undo: Annotated[bool, typer.Option("--undo", help="Take them in again.")] = False,
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Leave traces out of everything; their files stay.

    Example: bench trace drop 20261127-231502-5f0c2a
    """
    store = TraceStore(workspace)
    for id_ in _found(store, ids):
        store.drop(id_, not undo)
        print(f"{'took in' if undo else 'dropped'} {id_}")


def counted(counts: dict[str, int]) -> str:
    """Numbers by what they count, in one line: `2 github, 1 password`."""
    return ", ".join(f"{number} {name}" for name, number in sorted(counts.items()))


def damaged_note(counts: Counter[str] | None = None) -> Callable[[Malformed], None]:
    """What tells of the file of a trace that cannot be read, and counts it."""

    def tell(error: Malformed) -> None:
        print_note(f"left out: {error.what}; {error.hint}")
        if counts is not None:
            counts["damaged"] += 1

    return tell


def _found(store: TraceStore, ids: list[str]) -> list[str]:
    """The whole ids, all of them before anything is done with one."""
    return [store.get(id_).id for id_ in ids]


def _row(trace: Trace) -> dict[str, Any]:
    head = masked_head(trace)
    return {
        "id": trace.id,
        "timestamp": trace.timestamp,
        "model": head.model,
        "turns": trace.turns,
        "tools": dict(trace.called),
        "status": trace.status,
        "rating": trace.rating,
        "solved": trace.solved,
        "marks": [mark.name for mark in trace_marks(trace)],
        "task": head.task,
        "why": head.why,
        "edited": trace.edited,
        "dropped": trace.dropped,
    }


def _cells(trace: Trace) -> tuple[str, ...]:
    called = ", ".join(f"{name} ×{n}" if n > 1 else name for name, n in trace.called.items())
    solved = {True: "yes", False: "no", None: ""}[trace.solved]
    status = f"{trace.status} (dropped)" if trace.dropped else str(trace.status)
    marks = ", ".join(mark.name for mark in trace_marks(trace))
    head = masked_head(trace)
    texts = (one_line(head.model, 30), str(trace.turns), one_line(called, 40), status)
    return (trace.id, *texts, trace.rating or "", solved, marks, one_line(head.task, 40))


def _lines(trace: Trace, limit: int | None) -> Iterator[tuple[str, str]]:
    """The lines of a trace, each with its style."""
    rated = f", rated {trace.rating}" if trace.rating else ""
    why = f": {trace.why}" if trace.why else ""
    edited = ", edited" if trace.edited else ""
    yield f"{trace.id}  {trace.status}{why}{rated}{edited}", "bold"
    yield f"{trace.timestamp or 'time not known'}, {trace.model or 'model not known'}", ""
    if trace.task:
        yield f"task: {one_line(trace.task, 200)}", ""
    if trace.solved is not None:
        yield f"solved: {'yes' if trace.solved else 'no'}", ""
    if trace.tools:
        yield f"tools: {', '.join(tool['function']['name'] for tool in trace.tools)}", ""
    for mark in trace_marks(trace):
        yield f"marked {mark.name}: {mark.text}", "yellow"
    for number, message in enumerate(trace.messages, 1):
        yield "", ""
        yield f"{number} {message['role']}", "bold"
        yield from _texts(message.get("reasoning_content", ""), limit, "dim")
        yield from _texts(message["content"], limit if message["role"] == "tool" else None, "")
        for call in message.get("tool_calls", ()):
            function = call["function"]
            yield from _texts(f"→ {function['name']} {function['arguments']}", limit, "cyan")


def _texts(text: str, limit: int | None, style: str) -> Iterator[tuple[str, str]]:
    """The lines of a text, of which what is over the limit is only counted."""
    shown = text if limit is None else text[:limit]
    for line in shown.splitlines():
        yield f"  {line}", style
    if len(shown) < len(text):
        yield f"  … {len(text) - len(shown):,} more characters: --all", "dim"
