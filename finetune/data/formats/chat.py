"""Conversations: turns in order, calls of tools as text, and one row per answer.

A turn of the assistant that calls tools is written as Qwen2.5's chat template writes it, in the
form that Hermes made common: each call as JSON between `<tool_call>` and `</tool_call>`. A thought
beside an answer stands before it between `<think>` and `</think>`, as Qwen3 and DeepSeek-R1 write.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domainlift.errors import Misuse
from domainlift.fields import InvalidRow, from_json, kind_name, optional, unknown_key
from domainlift.text.display import one_line
from engines.base import Message
from engines.thought_markers import begins_with_thought
from finetune.data.rows import Row

#: More turns than these are not read: each answer holds all the turns before it.
MOST_TURNS = 256
OPENS, CLOSES = "<tool_call>", "</tool_call>"

# What files call the speakers -> what they are called here.
ROLES = {
    "system": "system",
    "developer": "system",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "chatgpt": "assistant",
    "model": "assistant",
    "bot": "assistant",
    "function_call": "assistant",
    "tool_call": "assistant",
    "tool": "tool",
    "function": "tool",
    "observation": "tool",
    "function_response": "tool",
    "tool_response": "tool",
}
_CALLS = frozenset(["function_call", "tool_call"])
# Keys that say whether a turn is learned, and those that say whether it is not.
_LEARNED = ("weight", "train", "training", "trainable", "learn", "loss", "loss_weight", "loss_mask")
_MASKED = ("mask", "masked")
_THOUGHTS = ("reasoning_content", "reasoning", "thinking")
_TRUE, _FALSE = ("1", "1.0", "true", "yes"), ("0", "0.0", "false", "no")
# Keys that change nothing in what a model reads or says.
_REMARKS = ("id", "message_id", "tool_call_id", "timestamp", "created_at", "metadata")
_MEDIA = ("images", "image", "videos", "video", "audio", "audios", "files")
# Who may speak after whom; "" stands before the first turn.
_NEXT = {
    "": ("system", "user"),
    "system": ("user",),
    "user": ("assistant",),
    "assistant": ("user",),
    "calls": ("tool",),
    "tool": ("tool", "assistant"),
}


@dataclass(frozen=True)
class Turn:
    """One turn; `calls` says whether it calls tools, `learned` whether it may be trained on."""

    role: str
    content: str
    calls: bool = False
    learned: bool = True


def chat_rows(turns: Sequence[Turn], tools: str = "") -> Iterator[Row]:
    """One row per turn of the assistant, with all the turns before it as its context."""
    _check_order(turns)
    before: list[Message] = []
    for turn in turns:
        if turn.role == "assistant" and turn.learned:
            yield Row("", turn.content, "", messages=tuple(before), tools=tools)
        before.append(Message(turn.role, turn.content))


def read_turns(value: Any, key: str, *, role: str = "role", content: str = "content") -> list[Turn]:
    """Read the turns under a key, of which each has its speaker and its text under these keys."""
    value = from_json(value, f"`{key}`")
    if not isinstance(value, list):
        raise InvalidRow(f"`{key}` must be a list of turns, not {kind_name(value)}")
    if not value:
        raise InvalidRow(f"`{key}` is empty")
    if len(value) > MOST_TURNS:
        raise InvalidRow(f"`{key}` has {len(value)} turns, and at most {MOST_TURNS} are read")
    return [_turn(turn, f"turn {number}", role, content) for number, turn in enumerate(value, 1)]


def read_tools(value: Any) -> str:
    """The tools as JSON text, "" where there are none."""
    value = from_json(value, "`tools`")
    if value is None or value in ("", []):
        return ""
    if not isinstance(value, list) or not all(isinstance(tool, dict) for tool in value):
        raise InvalidRow("`tools` must be a list of tools, each with keys and values")
    return json.dumps(value, ensure_ascii=False)


# --- one turn


def _turn(turn: Any, place: str, role_key: str, content_key: str) -> Turn:
    if not isinstance(turn, Mapping):
        raise InvalidRow(f"{place} must be keys with values, not {kind_name(turn)}")
    turn = {key: value for key, value in turn.items() if value is not None}
    missing = next((key for key in (role_key, content_key) if key not in turn), None)
    calls = _called(turn, place)
    if missing == role_key or (missing is not None and not calls):
        raise InvalidRow(f"{place} has no `{missing}`")
    name = turn[role_key]
    role = ROLES.get(name) if isinstance(name, str) else None
    if role is None:
        raise InvalidRow(f"{place} has the unknown role `{str(name)[:30]}`")
    _check_keys(turn, place, role, (role_key, content_key))
    content = _content(turn.get(content_key), place)
    if name in _CALLS:
        content = _call(from_json(content, f"the tool call of {place}"), place)
    if calls:
        content = "\n".join([*filter(None, [content.strip()]), *_calls(calls, place)])
    if not content.strip():
        raise InvalidRow(f"{place} (`{role}`) is empty")
    content = _with_thought(turn, content.strip(), place)
    if role == "assistant":
        content = _closed(content, place)
    return Turn(role, content, _calls_tools(role, content, place), _learned(turn, place))


def _check_keys(turn: Mapping[str, Any], place: str, role: str, own: tuple[str, str]) -> None:
    """Refuse what would be lost: keys that no answer, or no turn at all, has."""
    answers = (*_LEARNED, *_MASKED, *_THOUGHTS, "tool_calls", "function_call")
    for key, value in turn.items():
        if key in (*own, *_REMARKS) or value in ("", [], {}) or (key, role) == ("name", "tool"):
            continue
        if key in _MEDIA:
            raise InvalidRow(f"{place} holds `{key}`, and only text can be learned", key)
        if key == "name":
            raise InvalidRow(f"{place} (`{role}`) has a `name`, which no model would read", key)
        if key not in answers:
            raise unknown_key(key, (*answers, *own, *_REMARKS), f" in {place}")
        if role != "assistant" and (key in _THOUGHTS or "call" in key):
            raise InvalidRow(f"{place} (`{role}`) has `{key}`, as only an answer may", key)
    if role != "assistant" and _flags(turn, place) == {True}:
        raise InvalidRow(f"{place} (`{role}`) is to be learned, and only answers can be")


def _learned(turn: Mapping[str, Any], place: str) -> bool:
    said = _flags(turn, place)
    if len(said) > 1:
        raise InvalidRow(f"{place} says that it is learned, and that it is not")
    return said != {False}


def _flags(turn: Mapping[str, Any], place: str) -> set[bool]:
    """What the keys of a turn say on whether it is learned."""
    said = set()
    for key in (*_LEARNED, *_MASKED):
        value = str(turn.get(key, "")).strip().lower()
        if value and value not in (*_TRUE, *_FALSE):
            shown = one_line(value, 30)
            raise InvalidRow(f"`{key}` of {place} is `{shown}`, and only 0 or 1 can be obeyed", key)
        if value:
            said.add((value in _TRUE) is (key in _LEARNED))
    return said


def _with_thought(turn: Mapping[str, Any], content: str, place: str) -> str:
    thoughts = [optional(turn, key).strip() for key in _THOUGHTS]
    found = list(dict.fromkeys(filter(None, thoughts)))
    if len(found) > 1 or (found and "<think>" in content):
        raise InvalidRow(f"{place} holds two thoughts")
    return f"<think>\n{found[0]}\n</think>\n\n{content}" if found else content


def _closed(content: str, place: str) -> str:
    """An answer whose thought has both its marks: where a prompt began it, files lack the first."""
    try:
        begins = begins_with_thought(content)
    except Misuse as error:
        raise InvalidRow(f"unclosed thought in {place}") from error
    lacks_first = "</think>" in content and "<think>" not in content and not begins
    return f"<think>\n{content}" if lacks_first else content


def _called(turn: Mapping[str, Any], place: str) -> Any:
    """The calls of a turn; a single one may stand under the key that came before the list."""
    calls, single = turn.get("tool_calls"), turn.get("function_call")
    if calls and single:
        raise InvalidRow(f"{place} has `tool_calls` and `function_call`", "function_call")
    calls = from_json(calls, f"`tool_calls` of {place}")
    return [from_json(single, f"`function_call` of {place}")] if single else calls


def _content(value: Any, place: str) -> str:
    """The text of a turn, which may stand in parts."""
    if value is None:
        return ""
    if isinstance(value, str):
        return value
    if not isinstance(value, list):
        raise InvalidRow(f"{place} must hold a text, not {kind_name(value)}")
    texts = []
    for part in value:
        kind = part.get("type") if isinstance(part, Mapping) else None
        if kind != "text" or not isinstance(part.get("text"), str):
            raise InvalidRow(
                f"{place} holds a part of type `{kind}`, and only `text` can be learned"
            )
        texts.append(part["text"])
    return "".join(texts)


def _calls(value: Any, place: str) -> Iterator[str]:
    if not isinstance(value, list):
        raise InvalidRow(f"`tool_calls` of {place} must be a list, not {kind_name(value)}")
    for call in value:
        yield _call(call.get("function", call) if isinstance(call, Mapping) else call, place)


def _call(call: Any, place: str) -> str:
    if not isinstance(call, Mapping) or not isinstance(call.get("name"), str):
        raise InvalidRow(f"a tool call of {place} has no `name`")
    arguments = from_json(call.get("arguments"), f"`arguments` of {place}")
    if arguments in (None, ""):
        arguments = {}
    if not isinstance(arguments, Mapping):
        raise InvalidRow(f"the arguments of `{call['name']}` in {place} must be keys with values")
    call_json = json.dumps({"name": call["name"], "arguments": arguments}, ensure_ascii=False)
    return f"{OPENS}\n{call_json}\n{CLOSES}"


def _calls_tools(role: str, content: str, place: str) -> bool:
    if role != "assistant":
        return False
    opened = content.count(OPENS)
    if opened != content.count(CLOSES):
        raise InvalidRow(f"unclosed tool call in {place}")
    return opened > 0


# --- the order


def _check_order(turns: Sequence[Turn]) -> None:
    before = ""
    for number, turn in enumerate(turns, 1):
        allowed = _NEXT[before]
        if turn.role not in allowed:
            raise InvalidRow(_out_of_order(number, turn.role, before))
        before = "calls" if turn.calls else turn.role
    if before in ("user", "tool", "system", ""):
        raise InvalidRow(f"roles out of order: the last turn is `{before}`, which nothing answers")


def _out_of_order(number: int, role: str, before: str) -> str:
    wanted = " or ".join(f"`{name}`" for name in _NEXT[before])
    if before == "calls":
        return f"unclosed tool call: turn {number} is `{role}`, where {wanted} must give its result"
    if role == "tool":
        return f"roles out of order: turn {number} is `tool`, but no tool was called before it"
    after = f"after `{before}`" if before else "at the beginning"
    return f"roles out of order: turn {number} is `{role}`, where {wanted} must stand {after}"
