"""Values of a row of foreign data by their keys, and what is said of those that cannot be read."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from math import isfinite
from typing import Any

from domainlift.text.display import one_line, printable

Fields = Mapping[str, Any]


@dataclass(frozen=True)
class Problem:
    """A problem in a line of a file, counted from 1; `nearest` is the known key like `column`."""

    line: int
    what: str
    column: str = ""
    nearest: str = ""


class InvalidRow(ValueError):
    """A row that cannot be read; its text says why."""

    def __init__(self, what: str, column: str = "", nearest: str = "") -> None:
        super().__init__(what)
        self.column, self.nearest = column, nearest


def unknown_key(key: str, known: Iterable[str], where: str = "") -> InvalidRow:
    """The error of a key that nothing reads: misspelt, it would be lost without a word."""
    near = next(iter(get_close_matches(key.strip().lower(), list(known), n=1, cutoff=0.7)), "")
    shown = one_line(printable(key), 60)
    what = f"unknown key `{shown}`{where}" + (f"; did you mean `{near}`?" if near else "")
    return InvalidRow(what, shown, near)


def text(fields: Fields, key: str) -> str:
    """The text under a key that must be there, letter for letter; numbers are texts, too."""
    value = optional(fields, key)
    if not value:
        raise InvalidRow(f"`{key}` is empty", key)
    if not value.strip():
        raise InvalidRow(f"`{key}` is only white space", key)
    return value


def optional(fields: Fields, key: str) -> str:
    """The text under a key, "" where there is none."""
    value = fields.get(key)
    if value is None:
        return ""
    if not is_plain(value):
        raise InvalidRow(f"`{key}` must be a text, not {kind_name(value)}", key)
    return str(value)


def is_plain(value: object) -> bool:
    """Whether a value is a text or a number."""
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def parse_json(source: str) -> Any:
    """The value of a JSON text: NaN and infinities are missing, and no key stands twice.

    Raises ValueError or RecursionError.
    """
    return DECODER.decode(source)


def parse_object(source: str) -> dict[str, Any] | None:
    """The object that a JSON text says; None where it says none."""
    try:
        value = parse_json(source)
    except (ValueError, RecursionError):
        return None
    return value if isinstance(value, dict) else None


def from_json(value: Any, name: str) -> Any:
    """The value itself, or what it says as JSON text: tools and tables hold lists that way."""
    if not isinstance(value, str) or not value.strip():
        return value
    try:
        return parse_json(value)
    except (ValueError, RecursionError):
        raise InvalidRow(f"{name} is a text, but not JSON") from None


def kind_name(value: object) -> str:
    """The name of a JSON value's type in messages."""
    names: tuple[tuple[type, str], ...] = (
        *((bool, "true or false"), (str, "a text"), (int, "a number"), (float, "a number")),
        *((list, "a list"), (dict, "keys with values")),
    )
    return next((name for kind, name in names if isinstance(value, kind)), "nothing")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for n, key in enumerate(keys) if key in keys[:n])
        raise InvalidRow(f"key `{one_line(printable(twice), 60)}` stands there twice", twice)
    return made


def _number(literal: str) -> float | None:
    value = float(literal)
    return value if isfinite(value) else None


# Not strict: texts may hold control characters, which cleaning drops.
DECODER = json.JSONDecoder(
    strict=False,
    object_pairs_hook=_object,
    parse_float=_number,
    parse_constant=lambda _: None,
)
