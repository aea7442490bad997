"""Replies of servers: JSON objects, failures, and prompts beyond the context."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import replace
from typing import Any

from domainlift.errors import BenchError
from domainlift.text.display import one_line
from engines.base import Answer
from engines.thought_markers import answer_start

Json = dict[str, Any]

#: Fields in which servers put a thought beside the text.
THOUGHTS = ("reasoning_content", "reasoning", "thinking", "thought")
#: Reasons for the end of a reply that say that a limit ended it.
_LIMITS = frozenset({"length", "max_tokens", "max_output_tokens", "model_length", "limit"})

RETRIED = frozenset({408, 429, 500, 502, 503, 504})
# These speak of the server, of us or of the moment; any other 4xx of what was asked.
_NOT_OF_THE_PROMPT = frozenset({401, 403, 404, 408, 409, 425, 429})

# Not the bare word: a Go server says "context canceled" and "context deadline exceeded" as well.
_OVERFLOW = re.compile(
    r"context[ _-]?(size|length|window)|maximum model length|prompt is (too long|longer)"
    r"|input length exceeds|max_new_tokens|must have less than \d+ tokens",
    re.IGNORECASE,
)


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
    if found.get("error"):
        raise error_message(200, text)
    return found


def error_message(status: int, text: str, after: float = 0.0) -> Failure:
    """Say in one line what a server answered instead of a reply.

    An error that comes under status 200 broke out in the middle of a reply, so it is tried again.
    """
    what = error_text(text)
    line = f"the server answered {status}: {what}"
    if _OVERFLOW.search(what):
        return ContextOverflow(line, status)
    return Failure(line, status, retry=status in RETRIED or status == 200, after=after)


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


def truncate(text: str, stops: Iterable[str]) -> str:
    """End a reply where the first of the stop strings begins after its thought."""
    start = answer_start(text)
    ends = [text.find(stop, start) for stop in stops if stop]
    return text[: min((end for end in ends if end >= 0), default=len(text))]


def spoken(message: object) -> tuple[str, str | None]:
    """The text and the thought of a message, whose content may come in parts."""
    content = get_path(message, "content")
    parts = content if isinstance(content, list) else [{"text": content}]
    texts = [t for t in (get_path(part, "text") for part in parts) if isinstance(t, str)]
    found = (get_path(message, field) for field in THOUGHTS)
    thoughts = [*found, *(part_thought(part) for part in parts)]
    return "".join(texts), next((t for t in thoughts if isinstance(t, str) and t), None)


def spoken_calls(message: object) -> str:
    """The calls of tools in a message as Hermes' templates write them in a text, "" for none."""
    calls = get_path(message, "tool_calls")
    told = calls if isinstance(calls, list) else []
    return "".join(f"\n<tool_call>\n{json.dumps(call)}\n</tool_call>" for call in told)


def part_thought(part: object) -> str | None:
    """The thought in a part of a message: Mistral's has parts of its own."""
    thought = get_path(part, "thinking")
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
