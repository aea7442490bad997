"""OpenTelemetry's spans of a trace, as one OTLP request in JSON.

Names follow the semantic conventions for generative AI (semantic-conventions-genai v0.1.0): a span
of the agent, under it one of each call of the model with all that it was given, and one of each
call of a tool. When a message came is not known: spans begin a nanosecond after each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from datetime import datetime
from hashlib import sha256
from typing import Any

from domainlift import __version__
from domainlift.fields import parse_object
from traces.marks import paired_calls
from traces.trace import Json, Trace, TraceStatus

_INTERNAL, _CLIENT, _ERROR = 1, 3, 2


def spans_of(trace: Trace) -> Iterator[Json]:
    """The request of a trace."""
    spans = [_span(trace, number, span) for number, span in enumerate(_spans(trace))]
    if trace.status is TraceStatus.ERROR:
        spans[-1]["status"] = {"code": _ERROR, "message": trace.why}
    scope = {"name": "domainlift", "version": __version__}
    resource = {"attributes": _attributes({"service.name": "domainlift"})}
    yield {
        "resourceSpans": [{"resource": resource, "scopeSpans": [{"scope": scope, "spans": spans}]}]
    }


def _spans(trace: Trace) -> Iterator[tuple[str, Json]]:
    """The attributes of each span with the name of its operation, in their order."""
    yield "invoke_agent", {"gen_ai.agent.name": trace.harness}
    first, *rest = trace.messages or ({},)
    leads = first.get("role") == "system"
    given = {
        "gen_ai.system_instructions": [_text(first["content"])] if leads else [],
        "gen_ai.tool.definitions": [
            {"type": "function", **tool["function"]} for tool in trace.tools
        ],
    }
    asked = rest if leads else list(trace.messages)
    for place, message in enumerate(asked):
        if message["role"] == "assistant":
            reason = _finish_reason(trace, place + 1 == len(asked), message)
            yield (
                "chat",
                {
                    "gen_ai.request.model": trace.model,
                    **{key: json.dumps(each) for key, each in given.items() if each},
                    "gen_ai.input.messages": json.dumps([_message(each) for each in asked[:place]]),
                    "gen_ai.output.messages": json.dumps(
                        [{**_message(message), "finish_reason": reason}]
                    ),
                    "gen_ai.response.finish_reasons": [reason],
                },
            )
            yield from _tool_spans(asked[place:])


def _tool_spans(messages: Sequence[Json]) -> Iterator[tuple[str, Json]]:
    """The spans of the calls of the first message."""
    number = len(messages[0].get("tool_calls", ()))
    for call, _ in zip(paired_calls(messages), range(number), strict=False):
        result = {} if call.result is None else {"gen_ai.tool.call.result": _result(call.result)}
        yield (
            "execute_tool",
            {
                "gen_ai.tool.name": call.name,
                "gen_ai.tool.type": "function",
                "gen_ai.tool.call.id": call.id,
                "gen_ai.tool.call.arguments": json.dumps(parse_object(call.arguments) or {}),
                **result,
            },
        )


def _span(trace: Trace, number: int, span: tuple[str, Json]) -> Json:
    operation, attributes = span
    named = attributes.get("gen_ai.request.model") or attributes.get("gen_ai.tool.name")
    known = {
        "gen_ai.operation.name": operation,
        "gen_ai.provider.name": trace.harness,
        "gen_ai.conversation.id": trace.id,
    }
    at = str(_nanoseconds(trace.timestamp) + number)
    parent = {"parentSpanId": _hex(trace.id, 0, 16)} if number else {}
    return {
        "traceId": _hex(trace.id, None, 32),
        "spanId": _hex(trace.id, number, 16),
        **parent,
        "name": f"{operation} {named}" if named else operation,
        "kind": _CLIENT if operation == "chat" else _INTERNAL,
        "startTimeUnixNano": at,
        "endTimeUnixNano": at,
        "attributes": _attributes({**known, **attributes}),
    }


def _message(message: Json) -> Json:
    """A message as a role and parts."""
    if message["role"] == "tool":
        answered = {"id": message["tool_call_id"]} if "tool_call_id" in message else {}
        parts = [{"type": "tool_call_response", **answered, "response": message["content"]}]
    else:
        thought = message.get("reasoning_content")
        parts = [{"type": "reasoning", "content": thought}] if thought else []
        parts += [_text(message["content"])] if message["content"] else []
        parts += map(_call, message.get("tool_calls", ()))
    name = {"name": message["name"]} if "name" in message else {}
    return {"role": message["role"], **name, "parts": parts}


def _call(call: Json) -> Json:
    """The part of a call; arguments are an object where nothing of their text is lost by that."""
    text = call["function"]["arguments"]
    try:
        read = json.loads(text)
    except (ValueError, RecursionError):
        read = text
    arguments = read if json.dumps(read, ensure_ascii=False) == text else text
    return {
        "type": "tool_call",
        "id": call["id"],
        "name": call["function"]["name"],
        "arguments": arguments,
    }


def _finish_reason(trace: Trace, is_last: bool, message: Json) -> str:
    if is_last and trace.status is not TraceStatus.DONE:
        return "error" if trace.status is TraceStatus.ERROR else "length"
    return "tool_call" if "tool_calls" in message else "stop"


def _text(content: str) -> Json:
    return {"type": "text", "content": content}


def _result(text: str) -> str:
    """The JSON object of a result; a text is put into one."""
    return text if parse_object(text) is not None else json.dumps({"content": text})


def _attributes(values: Json) -> list[Json]:
    return [{"key": key, "value": _value(value)} for key, value in values.items()]


def _value(value: Any) -> Json:
    if isinstance(value, list):
        return {"arrayValue": {"values": [_value(each) for each in value]}}
    return {"stringValue": str(value)}


def _hex(id_: str, number: int | None, length: int) -> str:
    return sha256(f"{id_} {number}".encode()).hexdigest()[:length]


def _nanoseconds(timestamp: str) -> int:
    try:
        return int(datetime.fromisoformat(timestamp).timestamp()) * 10**9
    except ValueError:
        return 0
