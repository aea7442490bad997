"""The Hub's session traces: a header, and a line per message.

https://huggingface.co/docs/hub/session-traces-format. Its keys are in camel case. What else is
known of a trace stands in the header, where the Hub ignores it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from domainlift.fields import InvalidRow, Problem
from domainlift.row_files import FileRow
from traces.formats.registry import known_status
from traces.store import session_header, trace_after
from traces.trace import Json, Rating, Trace, TraceStatus

_KEYS = {
    "reasoning_content": "reasoningContent",
    "tool_calls": "toolCalls",
    "tool_call_id": "toolCallId",
}
#: Types of lines that files of a workspace have besides.
_OWN = ("end", "rating", "edit", "drop")


def read_session_rows(rows: Iterable[FileRow]) -> Iterator[Trace | Problem]:
    """The traces of a file: a header begins one; with a message that is none, it is left out."""
    session: list[FileRow] = []
    for row in rows:
        if row.fields.get("type") == "session" and session:
            yield _trace(session)
            session = []
        session.append(row)
    if session:
        yield _trace(session)


def session_rows(trace: Trace) -> Iterator[Json]:
    """The lines of a trace."""
    known = {"status": trace.status, "why": trace.why}
    judged = {"rating": trace.rating, "solved": trace.solved}
    yield {
        **session_header(trace),
        **{key: value for key, value in (known | judged).items() if value not in ("", None)},
    }
    for message in trace.messages:
        named = {_KEYS.get(key, key): value for key, value in message.items()}
        yield {"type": "message", "message": named}


def _trace(session: list[FileRow]) -> Trace | Problem:
    row = session[0]
    try:
        trace, told = _begun(row), "status" in row.fields
        for row in session[1:]:
            trace = _after(trace, row)
            told = told or row.fields["type"] == "end"
    except InvalidRow as error:
        return Problem(row.line, f"{error}; its trace is left out")
    except (ValueError, TypeError, KeyError, AttributeError):
        return Problem(row.line, "is no line of a session; its trace is left out")
    return trace if told else known_status(trace)


def _begun(row: FileRow) -> Trace:
    header = _fields(row)
    if header.get("type") != "session":
        raise InvalidRow("is a line before the header of a session")
    trace = trace_after(Trace("", "", ""), {"harness": "unknown", **header, "id": "none"})
    rating, solved = header.get("rating"), header.get("solved")
    return replace(
        trace,
        id=str(header.get("id", "")),
        task=trace.task or str(header.get("name", "")),
        status=TraceStatus(header.get("status", trace.status)),
        why=str(header.get("why", "")),
        rating=None if rating is None else Rating(rating),
        solved=None if solved is None else bool(solved),
    )


def _after(trace: Trace, row: FileRow) -> Trace:
    line = _fields(row)
    if line["type"] in _OWN:
        return trace_after(trace, dict(line))
    if line["type"] != "message":
        return trace
    message = dict(line["message"])
    for own, theirs in _KEYS.items():
        if theirs in message:
            message[own] = message.pop(theirs)
    model = message.get("model", "")
    named = trace if trace.model or not isinstance(model, str) else replace(trace, model=model)
    return trace_after(named, {"type": "message", "message": message})


def _fields(row: FileRow) -> Mapping[str, Any]:
    if row.problem:
        raise InvalidRow(row.problem)
    return row.fields
