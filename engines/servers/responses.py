"""Replies of servers: JSON objects, failures, and prompts beyond the context."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from typing import Any

from domainlift.errors import BenchError
from domainlift.text.display import one_line
from engines.base import Answer
from engines.reply_text import StopText

Json = dict[str, Any]

#: Fields in which servers put a thought beside the text.
THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thought")
#: Reasons for the end of a reply that say that a limit ended it.
_LIMITS = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "limit"})

# Reasons that say that the reply is none: what ended it is not the model.
_FILTERS = frozenset(
    {"content_filter", "safety", "recitation", "prohibited_content", "blocklist", "spii"}
)
_BROKEN = frozenset(
    {"abort", "aborted", "cancelled", "error", "insufficient_system_resource", "load", "unload"}
)
_THINKING = frozenset({"reasoning", "reasoning_text", "thinking", "thought"})

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
# These speak of the server, of us or of the moment; any other 4xx of what was asked.
_NOT_OF_THE_PROMPT = frozenset({401, 403, 404, 408, 409, 425, 429})

# Not the bare word: a Go server says "context canceled" and "context deadline exceeded" as well.
_OVERFLOW = re.compile(
    r"context[ _-]?(size|length|window)|maximum model length|prompt is (too long|longer)"
    r"|input length exceeds|max_new_tokens|must have less than \d+ tokens",
    re.IGNORECASE,
)

# A gateway's 403 that is about what was asked, and not about who asks.
_MODERATED = re.compile(r"moderat|flagged|content policy|content filter|safety", re.IGNORECASE)


class Failure(BenchError):
    """A request without a usable reply; `status` is the HTTP status, where one came.

    `refused`: the server works, and will not take this prompt however often it is asked.
    """

    def __init__(
        self,
        what: str,
        status: int | None = None,
        *,
        retry: bool = False,
        after: float = 0.0,
        refused: bool = False,
    ) -> None:
        super().__init__(what)
        self.status = status
        self.retry = retry
        self.after = after
        about_prompt = status is not None and 400 <= status < 500
        self.refused = refused or (about_prompt and status not in _NOT_OF_THE_PROMPT)


class ContextOverflow(Failure):
    """The prompt is longer than the context, and the server says so."""


def parse(text: str) -> Json:
    """Read a reply that is one JSON object."""
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise Failure(f"the reply is not a JSON object: `{one_line(text, 80)}`", 200)
    for error in (found.get("error"), get_path(found, "choices", 0, "error")):
        if error:
            # A gateway tells the status of the server behind it.
            code = str(get_path(error, "code"))
            status = int(code) if re.fullmatch("[45][0-9][0-9]", code) else 200
            raise error_message(status, text if found.get("error") else json.dumps(error))
    return found


def error_message(status: int, text: str, after: float = 0.0) -> Failure:
    """Say in one line what a server answered instead of a reply.

    An error that comes under status 200 broke out in the middle of a reply, so it is tried again.
    """
    what = error_text(text)
    line = f"the server answered {status}: {what}"
    if _OVERFLOW.search(what):
        return ContextOverflow(line, status)
    refused = status == 403 and _MODERATED.search(what) is not None
    again = status in RETRIED or status == 200
    return Failure(line, status, retry=again, after=after, refused=refused)


def error_text(text: str) -> str:
    """Find the sentence in an error's body, which may be JSON within JSON."""
    with suppress(ValueError):
        found = json.loads(text)
        for key in ("error", "message", "detail"):
            inner = get_path(found, key)
            if inner:
                return error_text(inner if isinstance(inner, str) else json.dumps(inner))
    return one_line(text, 240) or "nothing"


def get_path(value: object, *path: str | int) -> Any:
    """Follow keys and indices into a reply; None where there is nothing."""
    for step in path:
        try:
            value = value[step]  # type: ignore[index]
        except (KeyError, IndexError, TypeError):
            return None
    return value


def token_count(reply: Json, *path: str) -> int:
    """Read a number of a reply; 0 where there is none."""
    found = get_path(reply, *path)
    return found if isinstance(found, int) else 0


def limit_ended(reason: object, tokens: int, most: int) -> bool:
    """Whether a limit ended a reply; where the server gives no reason, its length tells."""
    if isinstance(reason, str):
        return reason.casefold() in _LIMITS
    return tokens >= most > 0


def check_ending(reason: object) -> None:
    """Raise Failure where a filter ended a reply, or the server broke it off."""
    ending = reason.casefold() if isinstance(reason, str) else ""
    if ending in _FILTERS:
        raise Failure("the server's content filter ended the reply", 200, refused=True)
    if ending in _BROKEN:
        raise Failure(f"the server broke the reply off: `{ending}`", 200)


def with_text(
    answer: Answer, text: str, thought: str | None, stops: Sequence[str], reason: object, most: int
) -> Answer:
    """Fill an answer with a reply of `most` tokens at most, and with the reason why it ended."""
    said = StopText(stops).add(text, last=True)
    # A stop string that was found here ended the reply before the limit did.
    cut_off = said == text and limit_ended(reason, answer.output_tokens, most)
    return replace(answer, text=said, thought=thought, cut_off=cut_off)


def spoken(message: object) -> tuple[str, str | None]:
    """The text and the thought of a message, whose content may come in parts."""
    content = get_path(message, "content")
    parts = content if isinstance(content, list) else [{"text": content}]
    told = (get_path(part, "text") for part in parts if get_path(part, "type") not in _THINKING)
    texts = [text for text in told if isinstance(text, str)]
    found = (get_path(message, field) for field in THOUGHTS)
    thoughts = [*found, *(part_thought(part) for part in parts)]
    return "".join(texts), next((t for t in thoughts if isinstance(t, str) and t), None)


def spoken_calls(message: object) -> str:
    """The calls of tools in a message as Hermes' templates write them in a text, "" for none."""
    calls = get_path(message, "tool_calls")
    former = get_path(message, "function_call")
    told = calls if isinstance(calls, list) else [{"function": former}] if former else []
    return "".join(f"\n<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in told)


def part_thought(part: object) -> str | None:
    """The thought in a part of a message: Mistral's has parts of its own."""
    is_thought = get_path(part, "type") in _THINKING
    thought = get_path(part, "thinking") or (get_path(part, "text") if is_thought else None)
    if isinstance(thought, list):
        return "".join(str(get_path(each, "text") or "") for each in thought)
    return thought if isinstance(thought, str) else None


def with_options(answer: Answer, reply: Json) -> Answer:
    """Fill an answer with the options' log-likelihoods of a reply by `bench serve`."""
    told = get_path(reply, "domainlift")
    try:
        logprobs = tuple(float(value) for value in told["logprobs"])
        greedy = tuple(bool(value) for value in told["greedy"])
        return replace(answer, logprobs=logprobs, greedy=greedy, mass=told["mass"])
    except (KeyError, TypeError, ValueError) as error:
        raise Failure("the reply holds no log-likelihoods of options", 200) from error
