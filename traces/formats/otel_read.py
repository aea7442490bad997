"""Traces of OpenTelemetry's spans of generative AI; see `otel_write` for their conventions.

A call of a model tells all that it was given. One that goes on from an earlier one of the same
conversation continues its trace; any other begins a trace, as those of an agent's helpers do.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import Any

from domainlift.fields import InvalidRow, Problem, from_json, parse_object
from domainlift.row_files import FileRow
from traces.formats.registry import known_status
from traces.trace import Json, Trace, TraceStatus, read_message, read_trace_tools

_MODEL_CALLS = ("chat", "generate_content", "text_completion")
_ERRORS = (2, "STATUS_CODE_ERROR")
#: What values of other types raise, and times that no clock has.
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OverflowError, OSError)
_LEFT_OUT = "this call of a model is left out"


@dataclass(frozen=True)
class _Span:
    """A span: its line, conversation, begin in nanoseconds, attributes, and how it failed."""

    line: int
    conversation: str
    start: int
    attributes: Mapping[str, Any]
    failure: str | None


def read_spans(rows: Iterable[FileRow]) -> Iterator[Trace | Problem]:
    """The traces of all requests of a file; a trace's spans may be in several."""
    conversations: dict[str, list[_Span]] = {}
    for row in rows:
        try:
            if row.problem:
                raise InvalidRow(row.problem)
            for span in _spans(row):
                conversations.setdefault(span.conversation, []).append(span)
        except InvalidRow as error:
            yield Problem(row.line, str(error))
        except _UNREADABLE:
            yield Problem(row.line, "is no OTLP request with spans")
    for spans in conversations.values():
        yield from _traces(sorted(spans, key=lambda span: span.start))


def _spans(row: FileRow) -> Iterator[_Span]:
    for resource in row.fields["resourceSpans"]:
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                attributes = {
                    each["key"]: _plain(each.get("value", {}))
                    for each in span.get("attributes", ())
                }
                status = span.get("status", {})
                yield _Span(
                    row.line,
                    str(attributes.get("gen_ai.conversation.id") or span["traceId"]),
                    int(span.get("startTimeUnixNano", 0)),
                    attributes,
                    str(status.get("message", "")) if status.get("code") in _ERRORS else None,
                )


def _plain(value: Mapping[str, Any]) -> Any:
    """The value that OTLP tells with its type."""
    if "arrayValue" in value:
        return [_plain(each) for each in value["arrayValue"].get("values", ())]
    if "kvlistValue" in value:
        pairs = value["kvlistValue"].get("values", ())
        return {each["key"]: _plain(each.get("value", {})) for each in pairs}
    return next(iter(value.values()), None)


def _traces(spans: Sequence[_Span]) -> Iterator[Trace | Problem]:
    made: list[Trace] = []
    for span in spans:
        if span.attributes.get("gen_ai.operation.name") in _MODEL_CALLS:
            try:
                _continue(made, span)
            except InvalidRow as error:
                yield Problem(span.line, f"{error}; {_LEFT_OUT}")
            except _UNREADABLE:
                yield Problem(span.line, f"is no span of a call of a model; {_LEFT_OUT}")
    results = {
        str(span.attributes["gen_ai.tool.call.id"]): span.attributes["gen_ai.tool.call.result"]
        for span in spans
        if {"gen_ai.tool.call.id", "gen_ai.tool.call.result"} <= span.attributes.keys()
    }
    for number, trace in enumerate(made, 1):
        finished = replace(trace, messages=(*trace.messages, *_last_results(trace, results)))
        yield finished if number == 1 else replace(finished, id=f"{trace.id}-{number}")


def _continue(made: list[Trace], span: _Span) -> None:
    """Add a call of a model to the trace that it goes on from, or begin one."""
    given, answer = _given(span.attributes), _messages(span.attributes, "gen_ai.output.messages")
    if not given and not answer:
        raise InvalidRow("a span has no messages: were they recorded?")
    place = next((n for n, trace in enumerate(made) if _goes_on(given, trace.messages)), len(made))
    if place == len(made):
        made.append(_begun(span))
    before = made[place].messages
    trace = replace(made[place], messages=(*before, *given[len(before) :], *answer))
    made[place] = _ended(trace, span)


def _begun(span: _Span) -> Trace:
    of = span.attributes
    begin = datetime.fromtimestamp(span.start / 1e9, UTC).isoformat(timespec="seconds")
    return Trace(
        span.conversation,
        begin if span.start else "",
        str(of.get("gen_ai.request.model") or of.get("gen_ai.response.model") or ""),
        tools=read_trace_tools(of.get("gen_ai.tool.definitions")),
        harness="otel",
    )


def _ended(trace: Trace, span: _Span) -> Trace:
    if span.failure is not None:
        return replace(trace, status=TraceStatus.ERROR, why=span.failure)
    outputs = from_json(span.attributes.get("gen_ai.output.messages"), "`output.messages`") or ()
    if any(output.get("finish_reason") == "length" for output in outputs):
        return replace(trace, status=TraceStatus.UNFINISHED, why="a reply was cut off: length")
    return known_status(replace(trace, why=""))


def _goes_on(given: Sequence[Json], before: Sequence[Json]) -> bool:
    """Whether what a model was given begins with the messages before; thoughts may be left out."""
    return [_bare(message) for message in given[: len(before)]] == [*map(_bare, before)]


def _bare(message: Json) -> Json:
    return {key: each for key, each in message.items() if key not in ("reasoning_content", "name")}


def _given(attributes: Mapping[str, Any]) -> list[Json]:
    """The messages of a call, with the instructions as the first of them."""
    parts = from_json(attributes.get("gen_ai.system_instructions"), "`system_instructions`") or ()
    told = "\n\n".join(_part_text(part) for part in parts)
    given = _messages(attributes, "gen_ai.input.messages")
    system = {"role": "system", "content": told}
    return given if not told or given[:1] == [system] else [system, *given]


def _messages(attributes: Mapping[str, Any], key: str) -> list[Json]:
    messages = from_json(attributes.get(key), f"`{key}`") or []
    if not isinstance(messages, list):
        raise InvalidRow(f"`{key}` is no list of messages")
    return [each for message in messages for each in _read(message)]


def _read(message: Any) -> Iterator[Json]:
    """The messages of one with parts: each result of a tool is one."""
    if not isinstance(message, Mapping) or not isinstance(message.get("parts"), list):
        yield read_message(message)
        return
    kinds = ("text", "reasoning", "tool_call", "tool_call_response")
    parts: dict[str, list[Any]] = {kind: [] for kind in kinds}
    for part in message["parts"]:
        if not isinstance(part, Mapping) or part.get("type") not in parts:
            raise InvalidRow("a message has a part that is neither text, thought, call nor result")
        parts[part["type"]].append(part)
    results = parts.pop("tool_call_response")
    for part in results:
        content = _as_text(part.get("response", part.get("result")))
        answered = {"tool_call_id": part.get("id"), "name": message.get("name")}
        yield read_message({"role": "tool", "content": content, **answered})
    if any(parts.values()) or not results:
        yield read_message(
            {
                "role": message.get("role"),
                "content": "".join(map(_part_text, parts["text"])),
                "reasoning_content": "\n\n".join(map(_part_text, parts["reasoning"])),
                "tool_calls": parts["tool_call"],
            }
        )


def _part_text(part: Any) -> str:
    if not isinstance(part, Mapping) or not isinstance(part.get("content"), str):
        raise InvalidRow("a part of a message has no text")
    return str(part["content"])


def _last_results(trace: Trace, results: Mapping[str, Any]) -> Iterator[Json]:
    """The results of the last calls, which no later call of the model was given."""
    last = trace.messages[-1] if trace.messages else {}
    for call in last.get("tool_calls", ()):
        if call["id"] in results:
            told = results[call["id"]]
            read: Any = parse_object(told) if isinstance(told, str) else told
            alone = isinstance(read, dict) and read.keys() == {"content"}
            text = _as_text(read["content"] if alone else told)
            yield {"role": "tool", "content": text, "tool_call_id": call["id"]}


def _as_text(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
