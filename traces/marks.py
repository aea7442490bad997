"""Marks of a trace by rule: what speaks against learning from it."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from domainlift.fields import parse_object
from domainlift.text.display import one_line
from traces.trace import Json, Trace, TraceStatus

#: What is done so often in the same way is a loop.
REPEATS = 3
#: The longest round of calls that is looked for.
_LONGEST_ROUND = 12
#: Characters of all messages; about 50,000 tokens.
LONGEST_TRACE = 200_000
#: From this share of failed calls on, a trace is marked.
FAILED_SHARE = 0.5

# How tools and those that run them begin to say that a call has failed.
_FAILURE = re.compile(
    r"\s*(\[?(error|fatal|exception|failed|failure)\b\s*[\]:(!]|traceback \(most recent call last\)"
    r"|(unknown|no such) (tool|function)\b|\w*(error|exception):\s"
    r"|(exit|return|status) code:?\s*-?[1-9])",
    re.IGNORECASE,
)
# What ends with the same few words over and over, read from its end.
_IN_CIRCLES = re.compile(r"(.{4,200}?)\1{5,}", re.DOTALL)
_CUT = re.compile(r"\b(cut( off)?|length|max_tokens|truncated)\b", re.IGNORECASE)
_OPENED = (("<think>", "</think>"), ("<tool_call>", "</tool_call>"))


@dataclass(frozen=True)
class TraceMark:
    """A mark: its name, and a sentence that says what was found."""

    name: str
    text: str


@dataclass(frozen=True)
class PairedCall:
    """A call of a tool with its result, None where there is none."""

    id: str
    name: str
    arguments: str
    result: str | None


def trace_marks(trace: Trace) -> tuple[TraceMark, ...]:
    """The marks of a trace; none of them says that it did not solve its task."""
    calls = tuple(paired_calls(trace.messages))
    found = {
        "loop": _loop(trace, calls),
        "tool-errors": _tool_errors(trace, calls),
        "unfinished": _unfinished(trace, calls),
        "empty-answer": _empty_answer(trace),
        "cut-off": _cut_off(trace),
        "too-long": _too_long(trace),
    }
    return tuple(TraceMark(name, text) for name, text in found.items() if text)


def paired_calls(messages: Sequence[Json]) -> Iterator[PairedCall]:
    """The calls in their order; a result belongs to the answer before it, by id or by its place."""
    for place, message in enumerate(messages):
        calls = message.get("tool_calls", ())
        results = _results(messages, place + 1) if calls else []
        for call in calls:
            # The first of its id: models give several calls one.
            named = [each for each in results if each.get("tool_call_id") == call["id"]]
            fitting = named or [each for each in results if "tool_call_id" not in each]
            content = results.pop(results.index(fitting[0]))["content"] if fitting else None
            function = call["function"]
            yield PairedCall(call["id"], function["name"], function["arguments"], content)


def is_failure(result: str) -> bool:
    """Whether the result of a call says that it has failed."""
    if result.lstrip().startswith("{"):
        said = parse_object(result) or {}
        if any(said.get(key) for key in ("error", "isError", "is_error")):
            return True
        return any(said.get(key) is False for key in ("ok", "success"))
    return _FAILURE.match(result) is not None


def _results(messages: Sequence[Json], start: int) -> list[Json]:
    _, found = next(groupby(messages[start:], lambda message: message["role"]), ("", iter(())))
    return [message for message in found if message["role"] == "tool"]


def _loop(trace: Trace, calls: Sequence[PairedCall]) -> str:
    asked = [(call.name, _canonical(call)) for call in calls]
    same = Counter(zip(asked, (call.result for call in calls), strict=True))
    for ((name, _), _), times in same.most_common(1):
        if times >= REPEATS:
            return f"`{name}` was called {times} times with the same arguments and result"
    if round_ := _repeated_round(asked):
        names = ", ".join(f"`{name}`" for name, _ in asked[round_[0] : sum(round_)])
        return f"the calls {names} were made {REPEATS} times in a row"
    said = [message for message in trace.messages if message["role"] == "assistant"]
    answers = Counter(one_line(each["content"]) for each in said if "tool_calls" not in each)
    del answers[""]
    for answer, times in answers.most_common(1):
        if times >= REPEATS:
            return f"`{one_line(answer, 60)}` was said {times} times"
    for message in said:
        circle = _IN_CIRCLES.match(message["content"].rstrip()[::-1])
        if circle and re.search(r"\w", circle[1]):
            return f"an answer ends with `{one_line(circle[1][::-1], 60)}` over and over"
    return ""


def _canonical(call: PairedCall) -> str:
    found = parse_object(call.arguments)
    return call.arguments if found is None else json.dumps(found, sort_keys=True)


def _repeated_round(asked: Sequence[Hashable]) -> tuple[int, int] | None:
    """Where a round of calls begins that is made REPEATS times in a row, and its length."""
    for length in range(1, _LONGEST_ROUND + 1):
        run = 0
        for place in range(length, len(asked)):
            run = run + 1 if asked[place] == asked[place - length] else 0
            if run == length * (REPEATS - 1):
                return place + 1 - length * REPEATS, length
    return None


def _tool_errors(trace: Trace, calls: Sequence[PairedCall]) -> str:
    known = {tool["function"]["name"] for tool in trace.tools}
    if unknown := next((call.name for call in calls if known and call.name not in known), ""):
        return f"the tool `{one_line(unknown, 60)}` is not among those of the trace"
    if malformed := next((call.name for call in calls if parse_object(call.arguments) is None), ""):
        return f"the arguments of `{one_line(malformed, 60)}` are no JSON object"
    failed = sum(call.result is not None and is_failure(call.result) for call in calls)
    if calls and failed / len(calls) >= FAILED_SHARE:
        return f"{failed} of {len(calls)} calls failed"
    return ""


def _unfinished(trace: Trace, calls: Sequence[PairedCall]) -> str:
    if open_ := next((call.name for call in calls if call.result is None), ""):
        return f"a call of `{one_line(open_, 60)}` has no result"
    if not trace.messages or trace.messages[-1]["role"] != "assistant":
        return "there is no answer at the end"
    if trace.status is not TraceStatus.DONE:
        return f"it ended as {trace.status}{f': {trace.why}' if trace.why else ''}"
    return ""


def _empty_answer(trace: Trace) -> str:
    for number, message in enumerate(trace.messages, 1):
        empty = not message["content"].strip() and not message.get("tool_calls")
        if message["role"] == "assistant" and empty:
            return f"message {number} neither says nor calls anything"
    return ""


def _cut_off(trace: Trace) -> str:
    if trace.status is not TraceStatus.DONE and _CUT.search(trace.why):
        return f"an answer was cut off: {trace.why}"
    for number, message in enumerate(trace.messages, 1):
        for opening, closing in _OPENED if message["role"] == "assistant" else ():
            if opening in message["content"].rpartition(closing)[2]:
                return f"message {number} opens {opening} and does not close it"
    return ""


def _too_long(trace: Trace) -> str:
    length = sum(len(_all_text(message)) for message in trace.messages)
    return f"{length:,} characters, over {LONGEST_TRACE:,}" if length > LONGEST_TRACE else ""


def _all_text(message: Json) -> str:
    calls = (call["function"]["arguments"] for call in message.get("tool_calls", ()))
    return "".join((message["content"], message.get("reasoning_content", ""), *calls))
