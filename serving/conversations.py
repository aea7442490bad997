"""Conversations of the server as traces: a request goes on with the trace of the one before it.

A client sends the whole conversation each time. Where it begins with one that was recorded since
the server started, the new messages are appended to that trace; any other begins one of its own.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.scoring.replies.thoughts import split_thought
from domainlift.files import timestamp
from engines.streaming import ReplyDelta
from serving.openai_replies import ApiReply
from traces.agent import CUT_OFF, EMPTY, reply_message
from traces.store import TraceStore
from traces.trace import Trace, TraceStatus, new_id, read_messages, read_trace_tools

Json = dict[str, Any]
#: Conversations that can go on; of a later one, the oldest is forgotten.
_MOST = 10_000


class ConversationRecorder:
    """Writes the chats of a server into the traces of a workspace; many threads may call it."""

    def __init__(self, workspace: Path) -> None:
        self._store = TraceStore(workspace)
        self._lock = threading.Lock()
        # By the digest of a conversation up to its last reply: the trace that holds it.
        self._ends: OrderedDict[str, str] = OrderedDict()

    def add(self, writer: ApiReply, said: Sequence[ReplyDelta]) -> None:
        """Record a chat with its whole reply; InvalidRow where its messages are none of a trace.

        What is recorded is what the client sent: passages of a plan are not in it.
        """
        asked = writer.request.asked.messages
        given = read_messages([message.as_json() for message in asked])
        tools = read_trace_tools(list(writer.request.tools))
        # The client's reply has been written; this one has the same id, and no sources.
        again = ApiReply(writer.request, writer.prepared, id=writer.id)
        choice = again.whole(said)["choices"][0]
        reply = reply_message(choice["message"])
        status, why = _end(choice["finish_reason"], reply)
        begun = Trace(new_id(), timestamp(), writer.prepared.model, given, tools)
        # The client sends the reply back with the sources at its end, where it got them.
        sent = {**reply, "content": reply["content"] + writer.sources}
        *before, last = _digests(begun, (*given, sent))
        with self._lock:
            trace, known = self._trace(begun, before)
            with self._store.continuing(trace) as recorder:
                for message in (*given[known:], reply):
                    recorder.message(message)
                recorder.end(status, why)
            self._ends[last] = trace
            while len(self._ends) > _MOST:
                self._ends.popitem(last=False)

    def _trace(self, begun: Trace, digests: Sequence[str]) -> tuple[str, int]:
        """The trace of the longest conversation that is known, and how long that is."""
        for known in range(len(digests), 0, -1):
            trace = self._ends.pop(digests[known - 1], "")
            if trace and self._store.path(trace).exists():
                return trace, known
        with self._store.recording(replace(begun, messages=())):
            return begun.id, 0


def _end(finish: str | None, reply: Json) -> tuple[TraceStatus, str]:
    if finish == "tool_calls":
        return TraceStatus.UNFINISHED, "the results of its calls have not come"
    if finish == "length":
        return TraceStatus.UNFINISHED, CUT_OFF
    if not reply["content"].strip():
        return TraceStatus.UNFINISHED, EMPTY
    return TraceStatus.DONE, ""


def _digests(trace: Trace, messages: Sequence[Json]) -> Iterator[str]:
    """A digest of the conversation up to each of its messages; thoughts, which get lost, left out.

    Clients send an answer back with its thought in the text, beside it, or without.
    """
    sha = hashlib.sha256(json.dumps([trace.model, trace.tools], sort_keys=True).encode())
    for message in messages:
        text = message["content"]
        text = split_thought(text)[0].strip() if message["role"] == "assistant" else text
        calls = [call["function"] for call in message.get("tool_calls", ())]
        sha.update(json.dumps([message["role"], text, calls], sort_keys=True).encode())
        yield sha.hexdigest()
