"""Reading and writing of prepared rows as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, fields
from pathlib import Path
from typing import Any

from domainlift.errors import Malformed, Misuse
from domainlift.jsonl import json_lines
from engines.base import Message
from finetune.data.rows import Row

#: The parts of a data set, in the order in which they are spoken of.
SPLITS = ("train", "validation", "held_out")
_TURNS = ("messages", "chain")
_TEXTS = tuple(field.name for field in fields(Row) if field.name not in _TURNS)
_REQUIRED = ("prompt", "completion", "domain")


def row_lines(rows: Iterable[Row]) -> str:
    """The rows as text, one line of JSON each; what a row does not have is left out."""
    return json_lines(map(_as_json, rows))


def load_rows(path: Path, split: str = "train") -> list[Row]:
    """Read a file of rows, or one split of a prepared folder.

    A line that is no row, and a file that is not there, are errors that name it.
    """
    if path.is_dir():
        path = path / f"{split}.jsonl"
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError as error:
        # A data set that was never prepared is a folder that is not there.
        hint = f"`bench data prepare {'DOMAIN' if path.suffix else path.name}` writes one"
        raise Misuse(f"`{path}` is no prepared data set", hint) from error
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(path, "cannot be read as UTF-8 text") from error
    return read_rows(text, path)


def read_rows(text: str, path: Path) -> list[Row]:
    """Rows from what `row_lines` made of them; `path` is named where a line is no row."""
    # Not splitlines(): it also cuts at separators that may stand inside a text of JSON.
    lines = enumerate(text.split("\n"), 1)
    return [_row(path, number, line) for number, line in lines if line.strip()]


def _as_json(row: Row) -> dict[str, Any]:
    return {key: value for key, value in asdict(row).items() if value or key in _REQUIRED}


def _row(path: Path, number: int, line: str) -> Row:
    try:
        value = json.loads(line)
        if isinstance(value, dict):
            return _checked(value)
        what = "not keys with values"
    except (ValueError, RecursionError) as error:
        what = str(error)
    except (KeyError, TypeError):
        what = "keys that a row does not have, or has otherwise"
    hint = (
        "`bench data check` reads files of any form; this one must come from `bench data prepare`"
    )
    raise Malformed(path, f"not a prepared row: {what}", line=number, hint=hint)


def _checked(value: Mapping[str, Any]) -> Row:
    texts = {key: text for key, text in value.items() if key not in _TURNS}
    if not all(isinstance(texts[key], str) for key in (*_REQUIRED, *texts)):
        raise TypeError
    if unknown := [key for key in texts if key not in _TEXTS]:
        raise ValueError(f"unknown key `{unknown[0]}`")
    messages, chain = (_messages(value.get(key, ())) for key in _TURNS)
    return Row(**texts, messages=messages, chain=chain)


def _messages(value: Any) -> tuple[Message, ...]:
    messages = tuple(Message(**message) for message in value)
    if not all(isinstance(m.role, str) and isinstance(m.content, str) for m in messages):
        raise TypeError
    if not all(isinstance(m.extra, dict) for m in messages):
        raise TypeError
    return messages
