"""Traces of a workspace: a file for each, written as it happens.

The file is a log in JSON lines. It begins as the Hub's session traces do
(https://huggingface.co/docs/hub/session-traces-format): a header of type `session`, then lines of
type `message`. Lines of our own types follow: `end`, `rating`, `edit`, `drop`. Nothing is ever
changed in place: the last line of a type counts, and what a person edited away stays in the file.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from shlex import quote
from typing import Any

from domainlift.errors import Malformed, Misuse, begun_name
from domainlift.fields import InvalidRow
from domainlift.files import disk_errors, exclusive_lock, timestamp
from domainlift.jsonl import AppendLog, read_log
from domainlift.workspace import Workspace
from traces.trace import (
    Json,
    Rating,
    Trace,
    TraceStatus,
    checked_id,
    read_message,
    read_messages,
    read_trace_tools,
)


class TraceStore:
    """The traces of a workspace; reading creates nothing."""

    def __init__(self, workspace: Path) -> None:
        self._workspace = Workspace(workspace)

    def path(self, id_: str) -> Path:
        """The file of a trace."""
        return self._workspace.trace(id_)

    def ids(self) -> list[str]:
        """The ids of all traces, oldest first."""
        return sorted(path.stem for path in self._workspace.traces.glob("*.jsonl"))

    def all(
        self, on_damaged: Callable[[Malformed], None] | None = None, *, dropped: bool = False
    ) -> Iterator[Trace]:
        """All traces that can be read, oldest first; those that were dropped on wish.

        Each other file is told to `on_damaged`, or raises Malformed without one.
        """
        for id_ in self.ids():
            try:
                trace = self.read(id_)
            except Malformed as error:
                if on_damaged is None:
                    raise
                on_damaged(error)
                continue
            if dropped or not trace.dropped:
                yield trace

    def get(self, name: str) -> Trace:
        """The trace of this id, or of the only one that begins so; Misuse otherwise."""
        return self.read(begun_name("trace", name, self.ids(), "bench trace list"))

    def read(self, id_: str) -> Trace:
        """A trace as its lines tell it; Malformed, with the line, where one tells nothing."""
        path = self.path(id_)
        away = f"take the file away: `mv {quote(str(path))} {quote(f'{path}.damaged')}`"
        trace = Trace(id_, "", "")
        try:
            for line in read_log(path, _line, "not a line of a trace", f"mend it, or {away}"):
                trace = trace_after(trace, line)
        except OSError as error:
            raise Malformed(path, f"cannot be read: {error.strerror}", hint=away) from error
        # Not the header's: a file that was copied is a trace of its own.
        return replace(trace, id=id_)

    @contextmanager
    def recording(self, trace: Trace) -> Iterator[TraceRecorder]:
        """Begin a trace with what is known of it; its file is held until the block ends."""
        path = self.path(checked_id(trace.id))
        if path.exists():
            raise Misuse(f"there is a trace `{trace.id}` already", "bench trace list")
        with self._appending(path) as log:
            log.append(session_header(trace))
            recorder = TraceRecorder(log)
            for message in trace.messages:
                recorder.message(message)
            yield recorder

    @contextmanager
    def continuing(self, id_: str) -> Iterator[TraceRecorder]:
        """Go on with a trace; its file is held until the block ends."""
        with self._appending(self.path(id_)) as log:
            yield TraceRecorder(log)

    def add(self, trace: Trace) -> None:
        """Write a whole trace at once; Misuse where its id is taken."""
        with self.recording(trace) as recorder:
            recorder.end(trace.status, trace.why, trace.solved)
        if trace.rating is not None:
            self.rate(trace.id, trace.rating)

    def rate(self, id_: str, rating: Rating | None) -> None:
        """Say what a person thinks of a trace; None takes it back."""
        self._say(id_, {"type": "rating", "rating": rating})

    def drop(self, id_: str, dropped: bool = True) -> None:
        """Leave a trace out of everything, or take it in again; its file stays."""
        self._say(id_, {"type": "drop", "dropped": dropped})

    def edit(self, id_: str, messages: Iterable[Mapping[str, Any]]) -> None:
        """Put other messages in place of a trace's; InvalidRow where they are none."""
        self._say(id_, {"type": "edit", "messages": list(read_messages(list(messages)))})

    def _say(self, id_: str, line: Json) -> None:
        with self._appending(self.path(id_)) as log:
            log.append({**line, "timestamp": timestamp()})

    @contextmanager
    def _appending(self, path: Path) -> Iterator[AppendLog]:
        with disk_errors(path):
            path.parent.mkdir(parents=True, exist_ok=True)
        lock = path.with_suffix(".lock")
        log = AppendLog(path)
        with exclusive_lock(lock, f"trace `{path.stem}`", "wait until it ends"), log.writing():
            yield log


class TraceRecorder:
    """Writes the lines of one trace while it happens."""

    def __init__(self, log: AppendLog) -> None:
        self._log = log

    def message(self, message: Mapping[str, Any]) -> None:
        """Append a message."""
        said = read_message(message)
        self._log.append({"type": "message", "timestamp": timestamp(), "message": said})

    def end(self, status: TraceStatus, why: str = "", solved: bool | None = None) -> None:
        """Say how it ended; a trace without this line is unfinished."""
        found = {} if solved is None else {"solved": solved}
        self._log.append(
            {"type": "end", "timestamp": timestamp(), "status": status, "why": why, **found}
        )


def session_header(trace: Trace) -> Json:
    """The line that begins the file of a trace."""
    return {
        "type": "session",
        "harness": trace.harness,
        "id": trace.id,
        "name": trace.task or trace.id,
        "timestamp": trace.timestamp,
        "model": trace.model,
        "task": trace.task,
        "tools": list(trace.tools),
    }


def _line(value: Any) -> Json:
    if not isinstance(value, dict) or not isinstance(value["type"], str):
        raise ValueError
    try:
        trace_after(Trace("", "", ""), value)
    except InvalidRow as error:
        raise ValueError(str(error)) from error
    return value


def trace_after(trace: Trace, line: Json) -> Trace:
    """The trace with what one more line says; InvalidRow, ValueError or KeyError if it is none."""
    match line["type"]:
        case "session":
            return replace(
                trace,
                id=checked_id(line["id"]),
                timestamp=str(line.get("timestamp", "")),
                model=str(line.get("model", "")),
                task=str(line.get("task", "")),
                harness=str(line["harness"]),
                tools=read_trace_tools(line.get("tools")),
            )
        case "message":
            return replace(trace, messages=(*trace.messages, read_message(line["message"])))
        case "end":
            status, solved = TraceStatus(line["status"]), line.get("solved", trace.solved)
            return replace(trace, status=status, why=str(line.get("why", "")), solved=solved)
        case "rating":
            rating = line.get("rating")
            return replace(trace, rating=None if rating is None else Rating(rating))
        case "edit":
            return replace(trace, messages=read_messages(line["messages"]), edited=True)
        case "drop":
            return replace(trace, dropped=bool(line["dropped"]))
        case _:
            raise ValueError(line["type"])
