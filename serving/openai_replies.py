"""Replies of OpenAI's API: whole ones, chunks of a stream, and their log-probabilities."""

from __future__ import annotations

import json
import secrets
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from engines.base import Answer
from engines.streaming import ReplyDelta, TokenLogprob
from serving.assistant import PreparedReply
from serving.openai_requests import ReplyRequest
from serving.tool_calls import ToolCallReader

Json = dict[str, Any]

#: JSON has no infinity.
_LOWEST = -9999.0
DONE = "data: [DONE]\n\n"


def event(data: Json) -> str:
    """One event of a stream."""
    return f"data: {json.dumps(data, ensure_ascii=False)}\n\n"


def sources_text(prepared: PreparedReply) -> str:
    """The sources as the end of a text; "" where there are none."""
    passages = enumerate(prepared.treatment.passages, 1)
    lines = [f"[{number}] {p.source} ({p.place})" for number, p in passages]
    return "\n\nSources:\n" + "\n".join(lines) if lines else ""


@dataclass
class ApiReply:
    """Writes one reply of the API, from its pieces: as chunks, or as a whole.

    `sources` are told at its end, "" for none.
    """

    request: ReplyRequest
    prepared: PreparedReply
    sources: str = ""
    id: str = field(default_factory=lambda: secrets.token_hex(12))
    created: int = field(default_factory=lambda: int(time.time()))

    def __post_init__(self) -> None:
        self._reader = ToolCallReader(self.id) if self.request.tools else None
        self._last = ReplyDelta()
        self._offset = 0
        self._origin: Json = {"domainlift": self.prepared.as_json()}

    def first_chunks(self) -> list[Json]:
        """The chunk before all text: the role, and what the reply comes from."""
        if not self.request.chat:
            return []
        return [self._chunk({"role": "assistant", "content": ""})]

    def chunks(self, delta: ReplyDelta) -> list[Json]:
        """The chunks of one piece; the last piece has the sources, the finish and the usage."""
        chunks = []
        for each, finish in self._parts(delta):
            logprobs = None if finish else self._logprobs(delta.tokens)
            if each or logprobs or finish:
                chunks.append(self._chunk(each, logprobs, finish))
        if delta.finish and self.request.usage:
            chunks.append({**self._head(), "choices": [], "usage": self._usage()})
        return chunks

    def whole(self, deltas: Sequence[ReplyDelta]) -> Json:
        """The reply that is not streamed."""
        message: Json = {"role": "assistant", "content": ""}
        finish: str | None = None
        for delta in deltas:
            for each, ended in self._parts(delta):
                finish = ended or finish
                _add(message, each)
        tokens = [token for delta in deltas for token in delta.tokens]
        choice = {"index": 0, "logprobs": self._logprobs(tokens), "finish_reason": finish}
        if self.request.chat:
            if message.get("tool_calls") and not message["content"]:
                message["content"] = None
            choice["message"] = {**message, "refusal": None}
        else:
            choice["text"] = message["content"]
        usage = {"usage": self._usage()}
        return {**self._head(chunk=False), "choices": [choice], **usage, **self._origin}

    def choice(self, answer: Answer) -> Json:
        """The reply that is the likeliest of options, with the log-likelihood of each in nats."""
        best = max(range(len(answer.logprobs)), key=answer.logprobs.__getitem__)
        said = ReplyDelta(
            self.request.asked.options[best],
            finish="stop",
            prompt_tokens=answer.prompt_tokens,
            output_tokens=answer.output_tokens,
        )
        whole = self.whole([said])
        whole["domainlift"] |= {
            "logprobs": [_finite(each) for each in answer.logprobs],
            "greedy": list(answer.greedy),
            "mass": answer.mass,
        }
        return whole

    def _parts(self, delta: ReplyDelta) -> list[tuple[Json, str | None]]:
        """What a piece adds to the message; the finish comes by itself, at the end."""
        self._last, finish = delta, delta.finish
        text, calls = delta.text, delta.calls
        if self._reader is not None:
            text = self._reader.text(text)
            if finish:
                rest, found = self._reader.rest()
                calls = calls or tuple(found)
                text += rest
                finish = "tool_calls" if calls else finish
        if finish and finish != "tool_calls":
            text += self.sources
        added: Json = {"content": text} if text else {}
        added |= {"reasoning_content": delta.thought} if delta.thought else {}
        added |= (
            {"tool_calls": [{"index": n} | dict(c) for n, c in enumerate(calls)]} if calls else {}
        )
        parts: list[tuple[Json, str | None]] = [(added, None)]
        return [*parts, ({}, finish)] if finish else parts

    def _chunk(self, delta: Json, logprobs: Json | None = None, finish: str | None = None) -> Json:
        """A chunk; the first of a reply also says what it comes from."""
        choice: Json = {"index": 0, "logprobs": logprobs, "finish_reason": finish}
        choice |= {"delta": delta} if self.request.chat else {"text": delta.get("content", "")}
        usage = {"usage": None} if self.request.usage else {}
        origin, self._origin = self._origin, {}
        return {**self._head(), "choices": [choice], **usage, **origin}

    def _head(self, *, chunk: bool = True) -> Json:
        chat = "chat.completion.chunk" if chunk else "chat.completion"
        return {
            "id": f"{'chatcmpl' if self.request.chat else 'cmpl'}-{self.id}",
            "object": chat if self.request.chat else "text_completion",
            "created": self.created,
            "model": self.prepared.model,
        }

    def _usage(self) -> Json:
        before, written = self._last.prompt_tokens, self._last.output_tokens
        counts = {"prompt_tokens": before, "completion_tokens": written}
        return counts | {"total_tokens": before + written}

    def _logprobs(self, tokens: Sequence[TokenLogprob]) -> Json | None:
        if self.request.sampling.top_logprobs is None or not tokens:
            return None
        if self.request.chat:
            return {"content": [_token(each) for each in tokens], "refusal": None}
        offsets = []
        for each in tokens:
            offsets.append(self._offset)
            self._offset += len(each.text)
        return {
            "tokens": [each.text for each in tokens],
            "token_logprobs": [_finite(each.logprob) for each in tokens],
            # Of tokens with one text (halves of characters) the likeliest stands for all.
            "top_logprobs": [
                {other.text: _finite(other.logprob) for other in reversed(each.top)}
                for each in tokens
            ],
            "text_offset": offsets,
        }


def _add(message: Json, added: Json) -> None:
    """Add to a message what a piece of its stream adds; calls of tools by their index."""
    for key in ("content", "reasoning_content"):
        if key in added:
            message[key] = message.get(key, "") + added[key]
    calls = message.setdefault("tool_calls", []) if "tool_calls" in added else []
    for each in added.get("tool_calls", []):
        piece = {key: value for key, value in each.items() if key != "index"}
        if each["index"] >= len(calls):
            calls.append(piece)
            continue
        function, more = calls[each["index"]]["function"], piece.get("function", {})
        function["arguments"] = function.get("arguments", "") + more.get("arguments", "")


def _token(token: TokenLogprob) -> Json:
    return {**_plain_token(token), "top_logprobs": [_plain_token(each) for each in token.top]}


def _plain_token(token: TokenLogprob) -> Json:
    return {"token": token.text, "logprob": _finite(token.logprob), "bytes": list(token.raw)}


def _finite(value: float) -> float:
    return max(_LOWEST, value)
