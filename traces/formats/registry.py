"""The table of formats, and the reading of a file in whichever of them it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import Any

from domainlift.fields import InvalidRow, Problem, parse_object
from domainlift.registry import load_object
from domainlift.row_files import FileRow, items
from traces.trace import Trace, TraceStatus

#: The most bytes of a line; a trace may be one.
LONGEST_TRACE_LINE = 64 * 2**20
#: The deepest nesting that is read; schemas of tools have a dozen levels.
_DEEPEST = 100


@dataclass(frozen=True)
class TraceFormat:
    """A format: the key that the rows of its files have, and its functions as "module:name".

    `read` takes rows and gives traces and problems; `write` takes a trace and gives its rows. Where
    `is_file` holds, a file holds one trace.
    """

    key: str
    read: str
    write: str
    is_file: bool = False


FORMATS = {
    "openai": TraceFormat(
        "messages",
        "traces.formats.openai_messages:read_openai_rows",
        "traces.formats.openai_messages:openai_rows",
    ),
    "sessions": TraceFormat(
        "harness",
        "traces.formats.sessions:read_session_rows",
        "traces.formats.sessions:session_rows",
        is_file=True,
    ),
    "otel": TraceFormat(
        "resourceSpans", "traces.formats.otel_read:read_spans", "traces.formats.otel_write:spans_of"
    ),
}


def read_traces(path: Path) -> Iterator[Trace | Problem]:
    """The traces of a file in any known format, and what of it cannot be read.

    Malformed where it cannot be opened. A trace whose id is not told has none.
    """
    rows = _rows(path)
    first = []
    for row in rows:
        first.append(row)
        if not row.problem:
            break
    format_ = next((each for each in FORMATS.values() if each.key in first[-1].fields), None)
    problems = [Problem(row.line, row.problem) for row in first if row.problem]
    if format_ is None:
        yield from problems or [Problem(1, f"is no trace; known are {', '.join(FORMATS)}")]
        return
    yield from load_object(format_.read)(chain(first, rows))


def known_status(trace: Trace) -> Trace:
    """A trace that tells no status of its own, with that of its last message."""
    last = trace.messages[-1] if trace.messages else {}
    done = last.get("role") == "assistant" and "tool_calls" not in last
    return replace(trace, status=TraceStatus.DONE if done else TraceStatus.UNFINISHED)


def _rows(path: Path) -> Iterator[FileRow]:
    """The rows of a file; one JSON object over several lines is one row."""
    rows = items(path, longest=LONGEST_TRACE_LINE)
    first = next(rows, FileRow(1, problem="is empty"))
    if first.problem and (whole := _object(path)) is not None:
        yield _checked(FileRow(1, whole))
        return
    yield _checked(first)
    yield from map(_checked, rows)


def _object(path: Path) -> dict[str, Any] | None:
    if path.stat().st_size > LONGEST_TRACE_LINE:
        return None
    try:
        return parse_object(path.read_text(encoding="utf-8-sig"))
    except UnicodeDecodeError:
        return None


def _checked(row: FileRow) -> FileRow:
    """The row, or that it is nested too deeply for those who walk through it."""
    level: list[Any] = [row.fields]
    for _ in range(_DEEPEST):
        level = [
            inner
            for value in level
            for inner in (value.values() if isinstance(value, dict) else value)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return row
    return FileRow(row.line, problem=str(InvalidRow("is nested too deeply")))
