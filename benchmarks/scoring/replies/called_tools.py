"""Calls of tools in a reply, and how far they are the expected ones.

A call is an object with a `name` and `arguments` (`parameters` in Llama's form), alone or in a
list, or in OpenAI's `function`; it may stand anywhere in a text, within `<tool_call>` or a fence.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator
from typing import Any

from engines.chat_template import read_arguments

#: Name and arguments, the latter as JSON in one form.
Call = tuple[str, str]
_OBJECT = re.compile(r'\{\s*"')
_DECODER = json.JSONDecoder(strict=False)


def tool_calls(text: str) -> tuple[Call, ...]:
    """The calls in a text, in order."""
    found: list[Call] = []
    at = 0
    while (match := _OBJECT.search(text, at)) is not None:
        try:
            value, at = _DECODER.raw_decode(text, match.start())
            found += _calls(value)
        except (ValueError, RecursionError):
            at = match.start() + 1
    return tuple(found)


def tool_call_shares(reply: str, expected: str) -> tuple[float, float, float]:
    """1 or 0 for the right tools, with the right arguments, and in the right order.

    Arguments are compared as values of JSON; only the last looks at the order, of the tools alone.
    """
    made, wanted = tool_calls(reply), tool_calls(expected)
    made_names, wanted_names = ([name for name, _ in calls] for calls in (made, wanted))
    return (
        float(Counter(made_names) == Counter(wanted_names)),
        float(Counter(made) == Counter(wanted)),
        float(made_names == wanted_names),
    )


def expects_text(reference: str) -> bool:
    """Whether a reference is an answer in words: neither calls nor `[]`, which is any without."""
    return reference.strip() != "[]" and not tool_calls(reference)


def _calls(value: Any) -> Iterator[Call]:
    if isinstance(value, list):
        for each in value:
            yield from _calls(each)
    elif isinstance(value, dict) and isinstance(value.get("name"), str):
        given = value.get("arguments", value.get("parameters", {}))
        yield value["name"], _one_form(given)
    elif isinstance(value, dict):
        yield from _calls(value.get("function", value.get("tool_calls")))


def _one_form(arguments: Any) -> str:
    """Arguments as JSON with sorted keys; OpenAI's API has them as a text of JSON."""
    return json.dumps(_values(read_arguments(arguments)), sort_keys=True)


def _values(value: Any) -> Any:
    """Whole numbers in one form: JSON knows no difference between 2 and 2.0."""
    if isinstance(value, dict):
        return {key: _values(each) for key, each in value.items()}
    if isinstance(value, list):
        return [_values(each) for each in value]
    return int(value) if isinstance(value, float) and value.is_integer() else value
