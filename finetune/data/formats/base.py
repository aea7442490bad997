"""Shared parts of the readers of row formats."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

Fields = Mapping[str, Any]

#: The most characters of one line, and of the whole of a file that must be read at once.
LONGEST_LINE = 1_000_000
LARGEST_FILE = 512 * 2**20


@dataclass(frozen=True)
class Problem:
    """A problem in a line of a file; lines count from 1."""

    line: int
    what: str


class InvalidRow(ValueError):
    """A row that cannot be read; its text says why."""


def text(fields: Fields, key: str) -> str:
    """The text under a key that must be there, letter for letter; numbers are texts, too."""
    value = optional(fields, key)
    if not value:
        raise InvalidRow(f"`{key}` is empty")
    if not value.strip():
        raise InvalidRow(f"`{key}` is only white space")
    return value


def optional(fields: Fields, key: str) -> str:
    """The text under a key, "" where there is none."""
    value = fields.get(key)
    if value is None:
        return ""
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise InvalidRow(f"`{key}` must be a text, not {kind_name(value)}")
    return str(value)


def from_json(value: Any, name: str) -> Any:
    """The value itself, or what it says as JSON text: tools and tables hold lists that way."""
    if not isinstance(value, str) or not value.strip():
        return value
    try:
        return json.loads(value)
    except (ValueError, RecursionError):
        raise InvalidRow(f"{name} is a text, but not JSON") from None


def kind_name(value: object) -> str:
    """The name of a JSON value's type in messages."""
    names: tuple[tuple[type, str], ...] = (
        *((bool, "true or false"), (str, "a text"), (int, "a number"), (float, "a number")),
        *((list, "a list"), (dict, "keys with values")),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "nothing")
