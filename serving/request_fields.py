"""Fields of requests: those that are implemented, refused, and ignored.

A field that may change an answer is implemented or refused by name; what is ignored cannot change
one, and stands in a list. `null` asks for nothing anywhere. docs/serve.md shows the table.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

_BOTH = frozenset(
    {
        *("domainlift", "frequency_penalty", "logprobs", "max_tokens", "model"),
        *("presence_penalty", "seed", "stop", "stream", "stream_options", "temperature", "top_p"),
    }
)
#: Implemented: by endpoint, what is read of a request.
IMPLEMENTED: Mapping[str, frozenset[str]] = {
    "chat": _BOTH | {"max_completion_tokens", "messages", "tool_choice", "tools", "top_logprobs"},
    "completions": _BOTH | {"prompt"},
}
#: Ignored: for the books of whoever asks, and for caches, which change no answer.
IGNORED = frozenset(
    {
        *("metadata", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
        *("safety_identifier", "service_tier", "store", "user"),
    }
)
#: Refused, unless they ask for what is done anyway.
REFUSED: Mapping[str, tuple[object, ...]] = {
    "audio": (),
    "best_of": (1,),
    "echo": (False,),
    "function_call": ("none", "auto"),
    "functions": ([],),
    "logit_bias": ({},),
    "min_p": (0,),
    "modalities": (["text"],),
    "moderation": (),
    "n": (1,),
    "parallel_tool_calls": (True,),
    "prediction": (),
    "reasoning_effort": (),
    "repetition_penalty": (1,),
    "response_format": ({"type": "text"},),
    "suffix": ("",),
    "top_k": (0, -1),
    "verbosity": (),
    "web_search_options": (),
}


class RequestRefused(Exception):
    """A request that is answered by an error in OpenAI's shape; `param` names its field."""

    def __init__(
        self, message: str, param: str | None = None, *, status: int = 400, code: str | None = None
    ) -> None:
        super().__init__(message)
        self.message, self.param, self.status, self.code = message, param, status, code

    def as_json(self) -> dict[str, Any]:
        """The error object of OpenAI's API."""
        kind = "invalid_request_error" if self.status < 500 else "server_error"
        told = {"message": self.message, "type": kind, "param": self.param, "code": self.code}
        return {"error": told}


def checked_fields(endpoint: str, body: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of a request that are read, without null; RequestRefused for the others."""
    given = {name: value for name, value in body.items() if value is not None}
    read = IMPLEMENTED[endpoint]
    for name, value in given.items():
        if name in read or name in IGNORED:
            continue
        # `True == 1` in Python, and is another value here.
        same = [each for each in REFUSED.get(name, ()) if each == value]
        fine = any(isinstance(each, bool) == isinstance(value, bool) for each in same)
        if not fine:
            what = "is not implemented" if name in REFUSED else "is not known"
            raise RequestRefused(
                f"the field `{name}` {what} here, and could change the answer",
                name,
                code="unsupported_parameter",
            )
    return {name: value for name, value in given.items() if name in read}
