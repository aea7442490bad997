"""Tokens of an agent's turn, and which of them the assistant said.

The chat is rendered once, by the model's own template. What stands before an answer is found by
rendering the turns before it as a prompt: that must be the beginning of the whole, in text and in
tokens, so that every answer is trained behind exactly what the model is asked at that point. A turn
of which that does not hold, or of which the template leaves something out, is refused.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import pairwise
from typing import Any

from domainlift.errors import Misuse
from engines.base import Message
from engines.chat_template import ChatTemplate, read_arguments
from finetune.data.rows import Row

Span = tuple[int, int]
_HINT = "leave it out: `bench data prepare --traces --model MODEL` does, and counts"


def agent_turn_spans(
    row: Row, tokenizer: Any, template: ChatTemplate, turn_end: str
) -> tuple[tuple[int, ...], list[Span]]:
    """The tokens of a row with a chain up to the end of its last answer, and where answers stand.

    `turn_end` is what ends a turn in the template. Raises Misuse with the reason of a refusal,
    which does not depend on the row.
    """
    turns = (*row.messages, *row.chain)
    specials = special_texts(tokenizer)
    if any(special in text for text in _texts(turns) for special in specials):
        raise Misuse("a message holds a special token of the model", _HINT)
    tools = json.loads(row.tools) if row.tools else None
    thinks = any(_reasoning(message) for message in row.chain)
    whole = template.prompt(turns, tools, thinks=thinks, generation=False)
    spans = []
    for place in range(len(row.messages), len(turns)):
        if turns[place].role == "assistant":
            start = _start(whole, turns[: place + 1], tools, template)
            upto = template.prompt(turns[: place + 1], tools, thinks=thinks, generation=False)
            end = _end(whole, start, upto, turn_end if turn_end in specials else "")
            end = start + _ended(whole[start:end], specials)
            spans.append((start, end))
            _check_said(turns[place], whole[start:end])
    _check_read(turns, whole)
    if any(end > start for (_, end), (start, _) in pairwise(spans)):
        raise _other_prefix()
    return _in_tokens(whole, spans, tokenizer)


def special_texts(tokenizer: Any) -> frozenset[str]:
    """The texts of a tokenizer's special tokens."""
    added = (each for each in tokenizer.added_tokens_decoder.values() if each.special)
    return frozenset([*map(str, added), *tokenizer.all_special_tokens])


def _start(whole: str, turns: Sequence[Message], tools: Any, template: ChatTemplate) -> int:
    """Where the last of the turns begins in the whole, after its prompt."""
    first = bool(_reasoning(turns[-1]))
    for thinks in (first, not first):
        prompt = template.prompt(turns[:-1], tools, thinks=thinks)
        if whole.startswith(prompt):
            return len(prompt.rstrip(" "))
    raise _other_prefix()


def _end(whole: str, start: int, upto: str, turn_end: str) -> int:
    """Where an answer ends: with what ends a turn, or where its rendering does.

    `upto` is the rendering that ends with it; templates may write a last turn otherwise.
    """
    is_prefix = len(upto) > start and whole.startswith(upto)
    at = whole.find(turn_end, start, len(upto) if is_prefix else len(whole)) if turn_end else -1
    if at >= 0:
        return at + len(turn_end)
    if is_prefix:
        return len(upto)
    raise _other_prefix()


def _ended(said: str, specials: Collection[str]) -> int:
    """The length of an answer with the special token that ends it: without one it has no end."""
    ends = [at + len(each) for each in specials if (at := said.rfind(each)) >= 0]
    if not ends:
        raise Misuse("the chat template ends answers without a token of their own", _HINT)
    return max(ends)


def _other_prefix() -> Misuse:
    return Misuse("the chat template writes a turn otherwise once another follows", _HINT)


def _check_said(message: Message, said: str) -> None:
    """Raise Misuse where an answer's rendering leaves out what it holds."""
    calls = [call["function"] for call in message.extra.get("tool_calls") or ()]
    # Some templates write a text after the calls: reasoning there is none.
    thought = said.rpartition(str(calls[-1].get("name")))[0] if calls else said
    parts = (
        ("what is said beside a call" if calls else "an answer", [message.content], said),
        ("reasoning", [_reasoning(message)], thought),
        ("a call of a tool", [leaf for call in calls for leaf in _leaves(call)], said),
    )
    for what, texts, where in parts:
        if not all(_stands_in(text, where) for text in texts):
            raise Misuse(f"the chat template leaves out {what}", _HINT)


def _check_read(turns: Sequence[Message], whole: str) -> None:
    if not all(_stands_in(turn.content, whole) for turn in turns):
        raise Misuse("the chat template leaves out a message", _HINT)


def _stands_in(text: str, where: str) -> bool:
    text = text.strip()
    return text in where or json.dumps(text, ensure_ascii=False)[1:-1] in where


def _reasoning(message: Message) -> str:
    return str(message.extra.get("reasoning_content") or "")


def _texts(turns: Sequence[Message]) -> Iterator[str]:
    for turn in turns:
        yield turn.content
        yield _reasoning(turn)
        for call in turn.extra.get("tool_calls") or ():
            yield from _leaves(call["function"])


def _leaves(value: Any) -> Iterator[str]:
    """The texts and numbers in a call, as they may stand in its rendering."""
    if isinstance(value, Mapping):
        for key, each in value.items():
            yield from _leaves(read_arguments(each) if key == "arguments" else each)
    elif isinstance(value, list):
        for each in value:
            yield from _leaves(each)
    elif isinstance(value, str):
        yield value
    elif isinstance(value, int | float) and not isinstance(value, bool):
        yield json.dumps(value)


def _in_tokens(
    whole: str, spans: Sequence[Span], tokenizer: Any
) -> tuple[tuple[int, ...], list[Span]]:
    ends = [end for span in spans for end in span]
    texts = [whole[:end] for end in ends]
    encoded = tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"]
    ids = tuple(encoded[-1])
    if any(ids[: len(each)] != tuple(each) for each in encoded):
        raise Misuse("tokens of a prompt join with those of its answer", _HINT)
    places = [len(each) for each in encoded]
    return ids, list(zip(places[::2], places[1::2], strict=True))
