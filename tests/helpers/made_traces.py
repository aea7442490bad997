"""Traces of a few messages, as an agent would have made them."""

from __future__ import annotations

import json
from typing import Any

from traces.trace import Trace, TraceStatus

TOOL = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}


def user(text: str = "How warm is it in Oslo?") -> dict[str, Any]:
    return {"role": "user", "content": text}


def said(text: str = "4 degrees.", reasoning: str = "") -> dict[str, Any]:
    thought = {"reasoning_content": reasoning} if reasoning else {}
    return {"role": "assistant", "content": text, **thought}


def call(arguments: object = None, name: str = "weather", id_: str = "c1") -> dict[str, Any]:
    given = {"city": "Oslo"} if arguments is None else arguments
    text = given if isinstance(given, str) else json.dumps(given)
    function = {"name": name, "arguments": text}
    return said("") | {"tool_calls": [{"id": id_, "type": "function", "function": function}]}


def result(text: str = "4 degrees", id_: str = "c1") -> dict[str, Any]:
    return {"role": "tool", "content": text, "tool_call_id": id_}


def made_trace(*messages: dict[str, Any], id_: str = "t1", **values: Any) -> Trace:
    given = messages or (user(), call(), result(), said())
    base = {"model": "qwen", "tools": (TOOL,), "status": TraceStatus.DONE}
    return Trace(id_, "2026-11-27T10:00:00+00:00", messages=given, **{**base, **values})
