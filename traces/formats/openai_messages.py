"""OpenAI's messages: a line of JSON per trace."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from domainlift.fields import InvalidRow, Problem, optional
from domainlift.row_files import FileRow
from traces.formats.registry import known_status
from traces.trace import Json, Trace, read_messages, read_trace_tools


def read_openai_rows(rows: Iterable[FileRow]) -> Iterator[Trace | Problem]:
    """A trace of each row; `messages` and `tools` may be JSON texts, as tables have them."""
    for row in rows:
        try:
            yield Problem(row.line, row.problem) if row.problem else _trace(row.fields)
        except InvalidRow as error:
            yield Problem(row.line, str(error))


def openai_rows(trace: Trace) -> Iterator[Json]:
    """The row of a trace."""
    yield {
        "id": trace.id,
        "timestamp": trace.timestamp,
        "model": trace.model,
        "messages": list(trace.messages),
        "tools": list(trace.tools),
    }


def _trace(fields: Mapping[str, Any]) -> Trace:
    messages = read_messages(fields.get("messages"))
    if not messages:
        raise InvalidRow("`messages` is empty", "messages")
    return known_status(
        Trace(
            optional(fields, "id"),
            optional(fields, "timestamp"),
            optional(fields, "model"),
            messages,
            read_trace_tools(fields.get("tools")),
            harness="openai",
        )
    )
