"""Trace of an agent: its messages, its tools, and what became of it.

Messages and tools have the form of OpenAI's API. Of an answer, what it thought stands in
`reasoning_content`, apart from what it said; the arguments of a call are the text of a JSON object.
"""

from __future__ import annotations

import json
import re
import secrets
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any

from domainlift.fields import InvalidRow, from_json, kind_name

Json = dict[str, Any]
_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")
_ROLES = ("system", "user", "assistant", "tool")
_REASONING = ("reasoning_content", "reasoning", "thinking")


class TraceStatus(StrEnum):
    """How a trace ended; `unfinished` also stands for one that was cut off."""

    DONE = "done"
    UNFINISHED = "unfinished"
    ERROR = "error"


class Rating(StrEnum):
    """What a person says of a trace."""

    GOOD = "good"
    BAD = "bad"


@dataclass(frozen=True)
class Trace:
    """What an agent did, from the first message to the last.

    `timestamp` is when it began (ISO 8601, UTC); `why` says why it ended, where that is known;
    `solved` is what a check of its task found, None where none was made; `task` names the task.
    """

    id: str
    timestamp: str
    model: str
    messages: tuple[Json, ...] = ()
    tools: tuple[Json, ...] = ()
    status: TraceStatus = TraceStatus.UNFINISHED
    why: str = ""
    rating: Rating | None = None
    solved: bool | None = None
    task: str = ""
    harness: str = "bench"
    edited: bool = False
    dropped: bool = field(default=False, repr=False)

    @property
    def turns(self) -> int:
        """The number of the user's turns."""
        return sum(message["role"] == "user" for message in self.messages)

    @property
    def called(self) -> Counter[str]:
        """The names of the tools that were called, with how often."""
        return Counter(
            call["function"]["name"]
            for each in self.messages
            for call in each.get("tool_calls", ())
        )


def new_id() -> str:
    """An id that sorts by time: `20261127-231502-5f0c2a`."""
    return f"{datetime.now(UTC):%Y%m%d-%H%M%S}-{secrets.token_hex(3)}"


def checked_id(value: Any) -> str:
    """An id that may name a file; InvalidRow otherwise."""
    if not isinstance(value, str) or not _ID.fullmatch(value):
        raise InvalidRow(f"`{str(value)[:40]}` is no id: letters, digits, `.`, `_` and `-` are")
    return value


def read_messages(value: Any) -> tuple[Json, ...]:
    """Messages in the one form that a trace has; InvalidRow, with the message, for anything else.

    Parts of text are joined; what OpenAI's API and servers call a thought becomes
    `reasoning_content`. A call of a tool needs a name and a JSON object of arguments.
    """
    value = from_json(value, "`messages`")
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InvalidRow(f"`messages` must be a list of messages, not {kind_name(value)}")
    return tuple(read_message(each, f"message {number}") for number, each in enumerate(value, 1))


def read_message(value: Any, place: str = "the message") -> Json:
    """One message; see `read_messages`."""
    if not isinstance(value, Mapping):
        raise InvalidRow(f"{place} must be keys with values, not {kind_name(value)}")
    role = "system" if value.get("role") == "developer" else value.get("role")
    if role not in _ROLES:
        raise InvalidRow(f"{place} has the unknown role `{str(role)[:30]}`", "role")
    message: Json = {"role": role, "content": _text(value.get("content"), place)}
    if role == "assistant":
        thoughts = [_text(value.get(key), place) for key in _REASONING]
        if thought := next(filter(None, thoughts), ""):
            message["reasoning_content"] = thought
        if calls := from_json(value.get("tool_calls"), f"`tool_calls` of {place}"):
            message["tool_calls"] = _calls(calls, place)
    if role == "tool":
        for key in ("tool_call_id", "name"):
            if isinstance(value.get(key), str) and value[key]:
                message[key] = value[key]
    return message


def read_trace_tools(value: Any) -> tuple[Json, ...]:
    """Tools in OpenAI's form; a bare function, as some files have it, is put into one."""
    value = from_json(value, "`tools`")
    if value in (None, "", []):
        return ()
    if not isinstance(value, Sequence) or not all(isinstance(tool, Mapping) for tool in value):
        raise InvalidRow("`tools` must be a list of tools, each with keys and values", "tools")
    tools = []
    for number, tool in enumerate(value, 1):
        function = tool.get("function", tool)
        if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
            raise InvalidRow(f"tool {number} has no `name`", "tools")
        kept = {key: each for key, each in function.items() if key != "type"}
        tools.append({"type": "function", "function": kept})
    return tuple(tools)


def _text(value: Any, place: str) -> str:
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence):
        parts = [part.get("text") if isinstance(part, Mapping) else None for part in value]
        if all(isinstance(part, str) for part in parts):
            return "".join(str(part) for part in parts)
    raise InvalidRow(f"{place} holds something else than text")


def _calls(value: Any, place: str) -> list[Json]:
    if not isinstance(value, Sequence) or isinstance(value, str):
        raise InvalidRow(f"`tool_calls` of {place} must be a list, not {kind_name(value)}")
    return [_call(call, number, place) for number, call in enumerate(value, 1)]


def _call(call: Any, number: int, place: str) -> Json:
    function = call.get("function", call) if isinstance(call, Mapping) else None
    if not isinstance(function, Mapping) or not isinstance(function.get("name"), str):
        raise InvalidRow(f"a tool call of {place} has no `name`")
    arguments = function.get("arguments")
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments or {}, ensure_ascii=False)
    own = call.get("id")
    return {
        "id": own if isinstance(own, str) and own else f"call_{number}",
        "type": "function",
        "function": {"name": function["name"], "arguments": arguments or "{}"},
    }
