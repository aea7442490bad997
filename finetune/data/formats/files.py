"""Reader of rows from JSON lines, JSON lists and CSV, each with its line.

A row that cannot be read is one item with its problem, and reading goes on after it. Only a file
that cannot be opened is an error.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from io import StringIO
from itertools import takewhile
from pathlib import Path
from string import ascii_uppercase
from typing import IO, Any

from domainlift.errors import Malformed
from finetune.data.formats.base import LARGEST_FILE, LONGEST_LINE, Fields, kind_name

_BOM = b"\xef\xbb\xbf"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BLANK = re.compile(r"[ \t\r\n]*")
# Half a surrogate pair stands for a byte that is not UTF-8; see PEP 383.
_BAD = re.compile("[\udc80-\udcff]")
_TOO_LONG = f"is over {LONGEST_LINE // 1_000_000} MB"


@dataclass(frozen=True)
class FileRow:
    """A row and its line, or what is wrong there."""

    line: int
    fields: Fields = field(default_factory=dict)
    problem: str = ""


def items(path: Path) -> Iterator[FileRow]:
    """Yield every row of a CSV file, a JSON list, or lines of JSON, as its first character says."""
    try:
        with path.open("rb") as file:
            start = file.read(200)
            file.seek(len(_BOM) if start.startswith(_BOM) else 0)
            yield from _items(path, file, start.removeprefix(_BOM))
    except OSError as error:
        raise Malformed(path, f"cannot be read: {error.strerror}") from error


def _items(path: Path, file: IO[bytes], start: bytes) -> Iterator[FileRow]:
    if start.startswith(_UTF16) or b"\0" in start:
        yield FileRow(1, problem="is UTF-16 or no text at all; save the file as UTF-8")
    elif path.suffix.lower() == ".csv":
        yield from _table(path, file)
    elif start.lstrip().startswith(b"["):
        yield from _list(_whole(path, file))
    else:
        yield from _lines(file)


def _whole(path: Path, file: IO[bytes]) -> str:
    """The file as one text; bytes that are not UTF-8 are kept as such, so that they are found."""
    raw = file.read(LARGEST_FILE + 1)
    if len(raw) > LARGEST_FILE:
        hint = "split it, or write one row per line (JSONL), which may be of any size"
        raise Malformed(path, f"has over {LARGEST_FILE // 2**20} MB", hint=hint)
    return raw.decode("utf-8", "surrogateescape")


# --- lines of JSON


def _lines(file: IO[bytes]) -> Iterator[FileRow]:
    number = 0
    while raw := file.readline(LONGEST_LINE + 1):
        number += 1
        if len(raw) > LONGEST_LINE and not raw.endswith(b"\n"):
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(LONGEST_LINE)
            yield FileRow(number, problem=_TOO_LONG)
        elif raw.strip():
            yield _line(number, raw.decode("utf-8", "surrogateescape"))


def _line(number: int, text: str) -> FileRow:
    try:
        return _item(number, json.loads(text, strict=False), text)
    except (ValueError, RecursionError) as error:
        return FileRow(number, problem=_bad_bytes(text) or _broken(error))


def _item(line: int, value: Any, text: str) -> FileRow:
    problem = _bad_bytes(text)
    if not problem and not isinstance(value, dict):
        problem = f"must be keys with values, not {kind_name(value)}"
    return FileRow(line, problem=problem) if problem else FileRow(line, value)


def _broken(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "broken JSON: nested too deeply"
    if isinstance(error, json.JSONDecodeError):
        return f"broken JSON: {error.msg[:1].lower()}{error.msg[1:]} in column {error.colno}"
    return "broken JSON: a number has too many digits"


def _bad_bytes(text: str) -> str:
    match = _BAD.search(text)
    return f"is not UTF-8 (byte 0x{ord(match[0]) - 0xDC00:02x})" if match else ""


# --- a JSON list


def _list(text: str) -> Iterator[FileRow]:
    decoder = json.JSONDecoder(strict=False)
    place, line, before = _skip(text, text.index("[") + 1), 1, 0
    while not text.startswith("]", place):
        line, before = line + text.count("\n", before, place), place
        try:
            value, end = decoder.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            yield FileRow(line, problem=f"{_broken(error)}; the rest of the list cannot be read")
            return
        piece = text[place:end]
        yield (
            FileRow(line, problem=_TOO_LONG)
            if end - place > LONGEST_LINE
            else _item(line, value, piece)
        )
        place = _skip(text, end)
        if text.startswith(",", place):
            place = _skip(text, place + 1)
        elif not text.startswith("]", place):
            line += text.count("\n", before, place)
            yield FileRow(line, problem="broken JSON: a row must be followed by `,` or `]`")
            return


def _skip(text: str, place: int) -> int:
    match = _BLANK.match(text, place)
    return match.end() if match else place


# --- a table


def _table(path: Path, file: IO[bytes]) -> Iterator[FileRow]:
    rows = _csv_rows(_whole(path, file))
    line, header, problem = next(rows, (1, [], ""))
    columns = [cell.strip() for cell in header]
    twice = next((c for n, c in enumerate(columns) if c in columns[:n]), None)
    if problem or twice is not None:
        yield FileRow(line, problem=problem or f"column `{twice}` stands there twice")
        return
    for line, cells, problem in rows:
        if not problem and len(cells) != len(columns):
            problem = f"has {len(cells)} cells, the header {len(columns)}"
        problem = problem or next(filter(None, map(_bad_bytes, cells)), "")
        yield FileRow(line, {} if problem else _fields(columns, cells), problem)


def _csv_rows(text: str) -> Iterator[tuple[int, list[str], str]]:
    """Each row that holds anything, with its first line, or what is wrong with it."""
    reader = csv.reader(StringIO(text, newline=""), strict=True)
    while True:
        line = reader.line_num + 1
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, [], f"broken CSV: {error}"
            continue
        if any(cell.strip() for cell in cells):
            yield line, cells, ""


def _fields(columns: list[str], cells: list[str]) -> dict[str, Any]:
    """The cells by column; options may stand in columns A, B, C and on."""
    row: dict[str, Any] = dict(zip(columns, cells, strict=True))
    letters = list(takewhile(columns.__contains__, ascii_uppercase))
    if len(letters) > 1 and "options" not in row:
        row["options"] = [cell for letter in letters if (cell := row.pop(letter)).strip()]
    return row
