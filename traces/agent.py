"""The plainest loop of an agent: a model replies, the tools that it calls answer, until it is done.

The model sees its own messages as its server wrote them; what is told of them has the one form of a
trace, with the thought apart.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from benchmarks.scoring.replies.called_tools import tool_calls
from benchmarks.scoring.replies.thoughts import split_thought
from domainlift.activity import activity
from domainlift.fields import parse_object
from domainlift.text.display import one_line
from engines.servers.responses import THOUGHTS, get_path, limit_ended, spoken
from traces.trace import TraceStatus, read_message

Json = dict[str, Any]

#: Why an answer is missing, besides the number of replies.
CUT_OFF, EMPTY = "the limit of tokens cut a reply off", "an empty reply"
_MARK, _UNREAD = "<tool_call>", "a call that neither the server nor we can read"
#: How a reply begins that is a call: small models leave out the marks that servers look for.
_BARE = re.compile(r"\s*(?:```\w*\s*)?[\[{]")


class ChatModel(Protocol):
    """What is asked: a model behind OpenAI's API."""

    def chat(self, messages: Sequence[Json], tools: Sequence[Json], asked: Json) -> Json:
        """The choice by which a conversation goes on: `message` and `finish_reason`."""
        ...


class ToolSource(Protocol):
    """Tools in OpenAI's form, and what their calls give."""

    @property
    def tools(self) -> Sequence[Json]:
        """Their descriptions."""
        ...

    def call(self, name: str, arguments: Mapping[str, Any]) -> str:
        """The text that a call results in, errors too."""
        ...


@dataclass(frozen=True)
class AgentLimits:
    """The most replies of a model in a trace, and the tokens of one; None for the server's own."""

    steps: int = 25
    tokens: int | None = None

    @property
    def exceeded(self) -> str:
        """What is said of a trace with too many replies."""
        return f"no answer within {self.steps} replies"


@dataclass(frozen=True)
class AgentEnd:
    """How a trace ended, why where it has no answer, and its answer."""

    status: TraceStatus
    why: str = ""
    answer: str = ""


def run_agent(
    model: ChatModel,
    tools: ToolSource,
    messages: Sequence[Json],
    limits: AgentLimits,
    sampling: Json,
    tell: Callable[[Json], None],
) -> AgentEnd:
    """Go on with a conversation until the model answers; each new message is told at once.

    Raises what the model raises, and InvalidRow where its reply is no message.
    """
    seen = list(messages)
    asked = {**sampling, **({} if limits.tokens is None else {"max_tokens": limits.tokens})}
    for step in range(1, limits.steps + 1):
        with activity(f"reply {step} of the model"):
            choice = model.chat(seen, tools.tools, asked)
        message = reply_message(get_path(choice, "message"))
        written = _written_calls(message, tools.tools, step)
        if written:
            before, mark, _ = message["content"].partition(_MARK)
            text = before.strip() if mark else ""
            message = read_message({**message, "content": text, "tool_calls": written})
        tell(message)
        if limit_ended(get_path(choice, "finish_reason"), 0, 0):
            return AgentEnd(TraceStatus.UNFINISHED, CUT_OFF)
        calls = message.get("tool_calls", [])
        if not calls:
            return _answered(message["content"])
        own = {"content": message["content"]} if written else choice["message"]
        seen.append(_as_sent(own, calls))
        for call in calls:
            result = _result(call, tools)
            tell(result)
            seen.append(result)
    return AgentEnd(TraceStatus.UNFINISHED, limits.exceeded)


def reply_message(message: object) -> Json:
    """A server's message in the form of a trace, with all thoughts in `reasoning_content`."""
    text, thought = spoken(message)
    said, inner = split_thought(text)
    thoughts = "\n\n".join(each.strip() for each in (thought, inner) if each and each.strip())
    calls = get_path(message, "tool_calls")
    made = {"role": "assistant", "content": said, "reasoning_content": thoughts}
    return read_message({**made, "tool_calls": calls}, "the reply")


def _written_calls(message: Json, tools: Sequence[Json], step: int) -> list[Json]:
    """The calls in a reply's text which its server did not read, marked ones or of known tools."""
    text: str = message["content"]
    if "tool_calls" in message or not tools:
        return []
    known = {tool["function"]["name"] for tool in tools}
    calls = tool_calls(text) if _MARK in text or _BARE.match(text) else ()
    if _MARK not in text and not all(name in known for name, _ in calls):
        return []
    return [
        {"id": f"call_{step}_{number}", "function": {"name": name, "arguments": given}}
        for number, (name, given) in enumerate(calls, 1)
    ]


def _answered(text: str) -> AgentEnd:
    if _MARK in text:
        return AgentEnd(TraceStatus.ERROR, _UNREAD)
    if not text.strip():
        return AgentEnd(TraceStatus.UNFINISHED, EMPTY)
    return AgentEnd(TraceStatus.DONE, answer=text)


def _as_sent(message: Json, calls: Sequence[Json]) -> Json:
    """A message as its server takes it back: its own fields, and calls that can be read.

    Servers refuse a conversation that holds arguments which are no JSON; the result of such a call
    says what they were.
    """
    kept = {key: message[key] for key in ("content", *THOUGHTS) if message.get(key) is not None}
    readable = [
        call
        if parse_object(call["function"]["arguments"]) is not None
        else {**call, "function": {**call["function"], "arguments": "{}"}}
        for call in calls
    ]
    return {"role": "assistant", "content": None, **kept, "tool_calls": readable}


def _result(call: Json, tools: ToolSource) -> Json:
    name, written = call["function"]["name"], call["function"]["arguments"]
    arguments = parse_object(written)
    if arguments is None:
        text = f"error: the arguments are no JSON object: {one_line(written, 200)}"
    else:
        with activity(f"tool `{one_line(name, 40)}`"):
            text = tools.call(name, arguments)
    return {"role": "tool", "tool_call_id": call["id"], "name": name, "content": text}
