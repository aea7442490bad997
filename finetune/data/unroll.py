"""Training rows of a trace: one per turn of the user.

A row has all that came before the turn without reasoning, as templates show it to a model, and the
turn's chain with it: answers that call tools, results, the last answer.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from benchmarks.scoring.replies.thoughts import split_thought
from domainlift.files import text_sha256
from engines.base import Message
from engines.chat_template import is_user_turn
from engines.thought_markers import answer_start
from finetune.data.rows import Row
from traces.trace import Trace, TraceStatus

#: The kind of these rows.
TRACE = "trace"
_KEPT = ("tool_calls", "tool_call_id", "name")


@dataclass(frozen=True)
class Unrolled:
    """The rows of a trace; `refused` counts the turns that cannot be learned, by reason."""

    rows: tuple[Row, ...]
    refused: Counter[str]


def unroll(trace: Trace, domain: str) -> Unrolled:
    """One row per turn of the user that was answered."""
    messages = [_parted(message) for message in trace.messages]
    asked = [n for n, each in enumerate(messages) if is_user_turn(each.role, each.content)]
    tools = json.dumps(trace.tools, ensure_ascii=False) if trace.tools else ""
    is_cut = trace.status is not TraceStatus.DONE and not trace.edited
    rows, refused = [], Counter[str]()
    for start, end in pairwise([*asked, len(messages)]):
        chain = messages[start + 1 : end]
        if reason := _unlearnable(chain, is_cut=is_cut and end == len(messages)):
            refused[reason] += 1
            continue
        history = tuple(_without_reasoning(each) for each in messages[: start + 1])
        answer = chain[-1].content
        rows.append(
            Row("", answer, domain, TRACE, origin(trace), "", history, tools, chain=tuple(chain))
        )
    return Unrolled(tuple(rows), refused)


def origin(trace: Trace) -> str:
    """The source of a trace's rows: those of one task, or of one question, stay on one side."""
    if trace.task:
        return f"traces#{trace.task}"
    asked = next((each["content"] for each in trace.messages if each["role"] == "user"), trace.id)
    return f"traces#{text_sha256(' '.join(asked.casefold().split()))[:12]}"


def _unlearnable(chain: Sequence[Message], *, is_cut: bool) -> str:
    """Why a turn cannot be learned, "" where it can."""
    if is_cut or not chain or chain[-1].role != "assistant" or _calls(chain[-1]):
        return "no last answer"
    if not chain[-1].content.strip():
        return "an empty last answer"
    if any(each.role == "system" for each in chain):
        return "a system message after the question"
    return "calls and results do not pair" if not all(_paired(chain)) else ""


def _paired(chain: Sequence[Message]) -> Iterator[bool]:
    """For each answer, whether as many results follow as it calls tools."""
    said = [n for n, each in enumerate(chain) if each.role == "assistant"]
    yield said[0] == 0
    for start, end in pairwise([*said, len(chain)]):
        results = chain[start + 1 : end]
        calls = len(_calls(chain[start]))
        # Results in disguise may stand in one message, and what called for them in the text.
        disguised = any(each.role == "user" for each in results)
        yield bool(results) if disguised else len(results) == calls


def _calls(message: Message) -> Sequence[Any]:
    calls: Sequence[Any] = message.extra.get("tool_calls") or ()
    return calls


def _parted(message: Mapping[str, Any]) -> Message:
    """A message with its reasoning apart, also where that stands in its text."""
    content = str(message["content"])
    thought = str(message.get("reasoning_content") or "")
    if message["role"] == "assistant" and not thought and answer_start(content):
        content, found = split_thought(content)
        thought = (found or "").strip()
    extra = {key: message[key] for key in _KEPT if message.get(key)}
    more = {"reasoning_content": thought} if thought else {}
    return Message(str(message["role"]), content, {**extra, **more})


def _without_reasoning(message: Message) -> Message:
    extra = {key: value for key, value in message.extra.items() if key != "reasoning_content"}
    return Message(message.role, message.content, extra)
