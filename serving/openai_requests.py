"""Requests of OpenAI's API, read from JSON: everything is checked, and errors name the field."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from engines.base import Message, Mode
from engines.streaming import Sampling
from serving.asked import Asked, asked_in_chat, asked_in_text
from serving.assistant import AUTO
from serving.request_fields import RequestRefused, checked_fields

Json = dict[str, Any]

#: The API's own default where `max_tokens` of a completion is left out.
_COMPLETION_TOKENS = 16
_MOST_LOGPROBS, _MOST_STOPS = 20, 16
_ROLES = {"system": "system", "developer": "system"} | {
    role: role for role in ("user", "assistant", "tool")
}


@dataclass(frozen=True)
class ReplyRequest:
    """What a client wants: a question, who answers, and in which form.

    `footer` wants the sources at the end of the text, None what the server does anyway. Where the
    question has `options`, they are scored, and nothing is written.
    """

    asked: Asked
    model: str
    sampling: Sampling
    chat: bool
    stream: bool = False
    usage: bool = False
    tools: tuple[Mapping[str, Any], ...] = ()
    footer: bool | None = None


def read_body(text: bytes) -> Json:
    """Read a request's body; RequestRefused where it is no JSON object."""
    try:
        body = json.loads(text, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise RequestRefused(f"the body is not JSON: {str(error)[:200]}") from error
    if not isinstance(body, dict):
        raise RequestRefused("the body is not a JSON object")
    return body


def read_chat_request(body: Json) -> ReplyRequest:
    """Read a request for a chat completion."""
    given = checked_fields("chat", body)
    most = _whole(given, "max_completion_tokens", 1)
    if None not in (most, given.get("max_tokens")) and most != given["max_tokens"]:
        raise RequestRefused("it differs from `max_completion_tokens`", "max_tokens")
    top = _whole(given, "top_logprobs", 0, _MOST_LOGPROBS)
    wanted = _flag(given, "logprobs")
    if top is not None and not wanted:
        raise RequestRefused("`top_logprobs` needs `logprobs`", "top_logprobs")
    alternatives = (0 if top is None else top) if wanted else None
    messages = _messages(given.get("messages"))
    sampling = _sampling(given, most, alternatives)
    return _request(given, asked_in_chat(messages), sampling, chat=True, tools=_tools(given))


def read_completion_request(body: Json) -> ReplyRequest:
    """Read a request for a completion of one text."""
    given = checked_fields("completions", body)
    prompt = given.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        prompt = prompt[0]
    if not isinstance(prompt, str):
        raise RequestRefused("`prompt` must be one text", "prompt")
    alternatives = _whole(given, "logprobs", 0, _MOST_LOGPROBS)
    sampling = _sampling(given, _COMPLETION_TOKENS, alternatives)
    return _request(given, asked_in_text(_clean(prompt)), sampling, chat=False)


def _request(
    given: Json,
    asked: Asked,
    sampling: Sampling,
    *,
    chat: bool,
    tools: tuple[Mapping[str, Any], ...] = (),
) -> ReplyRequest:
    options = _table(given, "stream_options", {"include_usage", "include_obfuscation"})
    own = _table(given, "domainlift", {"options", "mode", *(["sources"] if chat else [])})
    stream = _flag(given, "stream")
    if "options" in own:
        free = Sampling(seed=sampling.seed, max_tokens=sampling.max_tokens)
        if stream or tools or sampling != free or "sources" in own:
            raise RequestRefused("options are scored, and nothing is written", "domainlift.options")
        asked = asked.with_options(*_options(own))
    if options and not stream:
        raise RequestRefused("`stream_options` needs `stream`", "stream_options")
    return ReplyRequest(
        asked,
        _read(given, "model", str, "a text", AUTO),
        sampling,
        chat,
        stream,
        _flag(options, "include_usage"),
        tools,
        _flag(own, "sources") if "sources" in own else None,
    )


def _options(own: Json) -> tuple[tuple[str, ...], Mode]:
    options, mode = own["options"], own.get("mode", Mode.CLOZE)
    if not isinstance(options, list) or not all(isinstance(o, str) and o for o in options):
        raise RequestRefused("options are a list of texts", "domainlift.options")
    if not options or mode not in (Mode.LETTER, Mode.CLOZE):
        raise RequestRefused("no options, or a mode that is not letter or cloze", "domainlift.mode")
    return tuple(options), Mode(mode)


def _sampling(given: Json, most: int | None, alternatives: int | None) -> Sampling:
    tokens = _whole(given, "max_tokens", 1)
    return Sampling(
        temperature=_number(given, "temperature", 0.0, 0, 2),
        top_p=_number(given, "top_p", 1.0, 0, 1),
        seed=_whole(given, "seed", -(2**63)),
        presence_penalty=_number(given, "presence_penalty", 0.0, -2, 2),
        frequency_penalty=_number(given, "frequency_penalty", 0.0, -2, 2),
        stop=_stops(given.get("stop")),
        max_tokens=most if tokens is None else tokens,
        top_logprobs=alternatives,
    )


def _messages(given: object) -> list[Message]:
    if not isinstance(given, list) or not given:
        raise RequestRefused("`messages` must be a list of one message at least", "messages")
    return [_message(each, f"messages[{number}]") for number, each in enumerate(given)]


def _message(given: object, place: str) -> Message:
    if not isinstance(given, dict) or not isinstance(given.get("role"), str):
        raise RequestRefused("a message is an object with a `role`", place)
    role = _ROLES.get(given["role"])
    if role is None:
        raise RequestRefused(f"no role `{given['role'][:40]}`", f"{place}.role")
    for name in ("audio", "function_call"):
        if given.get(name) is not None:
            raise RequestRefused(f"`{name}` is not implemented here", f"{place}.{name}")
    rest = {k: v for k, v in given.items() if k not in {"role", "content"} and v is not None}
    if "tool_calls" in rest:
        _check_calls(rest["tool_calls"], f"{place}.tool_calls")
    return Message(role, _content(given.get("content"), f"{place}.content"), rest)


def _content(given: object, place: str) -> str:
    """The text of a message, which may come in parts; "" where there is none."""
    if given is None:
        return ""
    if isinstance(given, str):
        return _clean(given)
    if not isinstance(given, list):
        raise RequestRefused("content is a text or a list of parts", place)
    texts = []
    for number, part in enumerate(given):
        kind = part.get("type") if isinstance(part, dict) else None
        text = part.get(kind) if isinstance(part, dict) and kind in ("text", "refusal") else None
        if not isinstance(text, str):
            raise RequestRefused("only parts of type `text` are implemented", f"{place}[{number}]")
        texts.append(_clean(text))
    return "\n".join(texts)


def _check_calls(given: object, place: str) -> None:
    calls = given if isinstance(given, list) else [None]
    for number, call in enumerate(calls):
        function = call.get("function") if isinstance(call, dict) else None
        if not isinstance(function, dict) or not isinstance(function.get("name"), str):
            raise RequestRefused("a call has a `function` with a `name`", f"{place}[{number}]")
        try:
            json.loads(function.get("arguments") or "{}")
        except (ValueError, TypeError, RecursionError) as error:
            where = f"{place}[{number}].function.arguments"
            raise RequestRefused("the arguments of a call are not JSON", where) from error


def _tools(given: Json) -> tuple[Mapping[str, Any], ...]:
    tools, choice = given.get("tools", []), given.get("tool_choice", "auto")
    if choice not in ("auto", "none"):
        raise RequestRefused("`tool_choice` may be `auto` or `none` here", "tool_choice")
    if not isinstance(tools, list):
        raise RequestRefused("`tools` is a list", "tools")
    for number, tool in enumerate(tools):
        function = tool.get("function") if isinstance(tool, dict) else None
        if not isinstance(function, dict) or tool.get("type") != "function":
            raise RequestRefused("only tools of type `function` are known", f"tools[{number}]")
        if not isinstance(function.get("name"), str):
            raise RequestRefused("a function has a `name`", f"tools[{number}].function.name")
        if function.get("strict"):
            where = f"tools[{number}].function.strict"
            raise RequestRefused("arguments cannot be forced into a schema here", where)
    return tuple(tools) if choice == "auto" else ()


def _stops(given: object) -> tuple[str, ...]:
    stops = [given] if isinstance(given, str) else given
    if stops is None:
        return ()
    if isinstance(stops, list) and len(stops) <= _MOST_STOPS:
        texts = tuple(stop for stop in stops if isinstance(stop, str) and stop)
        if len(texts) == len(stops):
            return texts
    raise RequestRefused(f"`stop` is a text, or a list of up to {_MOST_STOPS}", "stop")


def _read(
    given: Mapping[str, Any], name: str, kind: type | tuple[type, ...], wanted: str, default: Any
) -> Any:
    """A field of this kind, or its default; true and false are no numbers."""
    value = given.get(name, default)
    if value is not default and (
        not isinstance(value, kind) or isinstance(value, bool) != (kind is bool)
    ):
        raise RequestRefused(f"`{name}` must be {wanted}", name)
    return value


def _number(given: Json, name: str, default: float, low: float, high: float) -> float:
    wanted = f"a number from {low} to {high}"
    value = float(_read(given, name, (int, float), wanted, default))
    if not low <= value <= high:
        raise RequestRefused(f"`{name}` must be {wanted}", name)
    return value


def _whole(given: Json, name: str, low: int, high: int = 2**63) -> int | None:
    wanted = f"a whole number from {low} to {high}"
    value: int | None = _read(given, name, int, wanted, None)
    if value is not None and not low <= value <= high:
        raise RequestRefused(f"`{name}` must be {wanted}", name)
    return value


def _flag(given: Mapping[str, Any], name: str) -> bool:
    return bool(_read(given, name, bool, "true or false", False))


def _table(given: Json, name: str, known: set[str]) -> Json:
    value: Json = _read(given, name, dict, "an object", {})
    for key in sorted(value.keys() - known):
        raise RequestRefused(f"no `{key[:40]}` in `{name}`", f"{name}.{key[:40]}")
    return value


def _clean(text: str) -> str:
    """A text without halves of surrogate pairs, which JSON allows and no tokenizer takes."""
    return text.encode("utf-8", "replace").decode()


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no number of JSON")
