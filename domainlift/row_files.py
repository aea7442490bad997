"""Reader of rows from JSON lines, JSON lists, tables and Parquet, each with its line.

Values that are null, no finite number, or the empty cells of a table are missing: a row does not
have their keys. A row that cannot be read is one item with its problem, and reading goes on after
it. Only a file that cannot be opened is an error.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from importlib import import_module
from io import StringIO
from pathlib import Path
from typing import IO, Any

from domainlift.errors import Malformed
from domainlift.fields import DECODER, Fields, InvalidRow, kind_name, parse_json
from domainlift.text.display import one_line

#: The most characters of one line, unless another number is given, and of the whole of a file that
#: must be read at once.
LONGEST_LINE = 1_000_000
LARGEST_FILE = 512 * 2**20
#: Endings of files that are tables.
TABLES = (".csv", ".tsv")

_BOM = b"\xef\xbb\xbf"
#: First bytes of files that hold rows otherwise.
_OTHER_KINDS = {
    b"PK\x03\x04": "a ZIP file or a spreadsheet",
    b"\x1f\x8b": "compressed",
}
_PARQUET = b"PAR1"
_UTF16 = (b"\xff\xfe", b"\xfe\xff")
_BLANK = re.compile(r"[ \t\r\n]*")
# Half a surrogate pair stands for a byte that is not UTF-8; see PEP 383.
_BAD = re.compile("[\udc80-\udcff]")
_HALF = re.compile(r"\\u[dD][89a-fA-F]")
_MISSING = re.compile(r"\s*(nan|NaN|<NA>)?\s*")
_PANDAS = re.compile(r"__index_level_\d+__")
_NAMELESS = re.compile(r"(unnamed: \d+)?", re.IGNORECASE)


@dataclass(frozen=True)
class FileRow:
    """A row and its line, or what is wrong there."""

    line: int
    fields: Fields = field(default_factory=dict)
    problem: str = ""


def items(path: Path, longest: int = LONGEST_LINE) -> Iterator[FileRow]:
    """Yield every row of a CSV or Parquet file, a JSON list, or lines of JSON, as it begins.

    A line or row of JSON with more than `longest` characters is not read.
    """
    with _opened(path) as file:
        place = file.tell()
        start = file.read(200)
        file.seek(place)
        yield from _items(path, file, start, longest)


def file_rows(path: Path, hint: str = "each line is one JSON object") -> Iterator[FileRow]:
    """Yield every row; Malformed at the first that cannot be read."""
    for row in items(path):
        if row.problem:
            raise Malformed(path, row.problem, line=row.line, hint=hint)
        yield row


def cells(path: Path) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) for each row of a CSV file without a header, as published ones are."""
    with _opened(path) as file:
        for line, found, problem in _csv_rows(_whole(path, file), strict=False):
            problem = problem or next(filter(None, map(_bad_bytes, found)), "")
            if problem:
                raise Malformed(path, problem, line=line)
            yield line, found


@contextmanager
def _opened(path: Path) -> Iterator[IO[bytes]]:
    """The file, after the mark that may stand at its beginning."""
    try:
        with path.open("rb") as file:
            file.seek(len(_BOM) if file.read(len(_BOM)) == _BOM else 0)
            yield file
    except OSError as error:
        raise Malformed(path, f"cannot be read: {error.strerror}") from error


def _items(path: Path, file: IO[bytes], start: bytes, longest: int) -> Iterator[FileRow]:
    other = next((kind for mark, kind in _OTHER_KINDS.items() if start.startswith(mark)), "")
    if other:
        yield FileRow(1, problem=f"is {other}; save it as CSV or as JSON lines")
    elif start.startswith(_PARQUET):
        yield from _parquet(path)
    elif start.startswith(_UTF16) or b"\0" in start:
        yield FileRow(1, problem="is UTF-16 or no text at all; save the file as UTF-8")
    elif path.suffix.lower() in TABLES:
        yield from _table(path, file)
    elif start.lstrip().startswith(b"["):
        yield from _list(_whole(path, file), longest)
    else:
        yield from _lines(file, longest)


def _whole(path: Path, file: IO[bytes]) -> str:
    """The file as one text; bytes that are not UTF-8 are kept as such, so that they are found."""
    raw = file.read(LARGEST_FILE + 1)
    if len(raw) > LARGEST_FILE:
        hint = "split it, or write one row per line (JSONL), which may be of any size"
        raise Malformed(path, f"has over {LARGEST_FILE // 2**20} MB", hint=hint)
    return raw.decode("utf-8", "surrogateescape")


# --- lines of JSON


def _lines(file: IO[bytes], longest: int) -> Iterator[FileRow]:
    number = 0
    while raw := file.readline(longest + 1):
        number += 1
        if len(raw) > longest and not raw.endswith(b"\n"):
            while raw and not raw.endswith(b"\n"):
                raw = file.readline(longest)
            yield FileRow(number, problem=_too_long(longest))
        elif raw.strip():
            yield _line(number, raw.rstrip().decode("utf-8", "surrogateescape"))


def _too_long(longest: int) -> str:
    return f"is over {longest // 1_000_000} MB"


def _line(number: int, text: str) -> FileRow:
    try:
        return _item(number, parse_json(text), text)
    except (ValueError, RecursionError) as error:
        return FileRow(number, problem=_bad_bytes(text) or _broken(error))


def _item(line: int, value: Any, text: str) -> FileRow:
    problem = _bad_bytes(text)
    if not problem and not isinstance(value, dict):
        problem = f"must be keys with values, not {kind_name(value)}"
    if problem:
        return FileRow(line, problem=problem)
    if _HALF.search(text):
        value = _whole_characters(value)
    return FileRow(line, {key: each for key, each in value.items() if each is not None})


def _whole_characters(value: Any) -> Any:
    """The value without the halves of characters that JSON can write and UTF-8 cannot."""
    if isinstance(value, str):
        return value.encode("utf-8", "ignore").decode()
    if isinstance(value, list):
        return [_whole_characters(each) for each in value]
    if isinstance(value, dict):
        return {_whole_characters(k): _whole_characters(v) for k, v in value.items()}
    return value


def _broken(error: Exception) -> str:
    if isinstance(error, RecursionError):
        return "broken JSON: nested too deeply"
    if isinstance(error, InvalidRow):
        return str(error)
    if isinstance(error, json.JSONDecodeError):
        return f"broken JSON: {error.msg[:1].lower()}{error.msg[1:]} in column {error.colno}"
    return "broken JSON: a number has too many digits"


def _bad_bytes(text: str) -> str:
    match = _BAD.search(text)
    return f"is not UTF-8 (byte 0x{ord(match[0]) - 0xDC00:02x})" if match else ""


# --- Parquet


def _parquet(path: Path) -> Iterator[FileRow]:
    """Read batch by batch; a row goes through JSON, so that it follows the same rules."""
    arrow: Any = import_module("pyarrow")  # it has no type stubs
    parquet: Any = import_module("pyarrow.parquet")
    number = 0
    try:
        with parquet.ParquetFile(path) as file:
            for batch in file.iter_batches(1024):
                for row in _shortest(batch, arrow).to_pylist():
                    number += 1
                    yield _line(number, json.dumps(row, ensure_ascii=False, default=_text_of))
    except (arrow.ArrowException, OSError) as error:
        yield FileRow(number + 1, problem=f"is a damaged Parquet file: {one_line(str(error), 80)}")


def _shortest(batch: Any, arrow: Any) -> Any:
    """The batch without pandas' own columns, its short floats as they are written: 0.1."""
    for at, field_ in reversed(list(enumerate(batch.schema))):
        if _PANDAS.fullmatch(field_.name):
            batch = batch.remove_column(at)
        elif arrow.types.is_float32(field_.type):
            values = batch.column(at).cast(arrow.string()).cast(arrow.float64())
            batch = batch.set_column(at, field_.name, values)
    return batch


def _text_of(value: Any) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


# --- a JSON list


def _list(text: str, longest: int) -> Iterator[FileRow]:
    place, line, before = _skip(text, text.index("[") + 1), 1, 0
    while not text.startswith("]", place):
        line, before = line + text.count("\n", before, place), place
        try:
            value, end = DECODER.raw_decode(text, place)
        except (ValueError, RecursionError) as error:
            yield FileRow(line, problem=f"{_broken(error)}; the rest of the list cannot be read")
            return
        piece = text[place:end]
        yield (
            FileRow(line, problem=_too_long(longest))
            if end - place > longest
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
    twice = next((c for n, c in enumerate(columns) if c and c in columns[:n]), None)
    if problem or twice is not None:
        yield FileRow(line, problem=problem or f"column `{twice}` stands there twice")
        return
    for line, found, problem in rows:
        if not problem and len(found) != len(columns):
            problem = f"has {len(found)} cells, the header {len(columns)}"
        problem = problem or next(filter(None, map(_bad_bytes, found)), "")
        yield FileRow(line, {} if problem else _fields(columns, found), problem)


def _csv_rows(text: str, *, strict: bool = True) -> Iterator[tuple[int, list[str], str]]:
    """Each row that holds anything, with its first line, or what is wrong with it."""
    # What parts the cells is what the header has most of: spreadsheets also write `;` and tabs.
    header = text.lstrip("\r\n").partition("\n")[0]
    delimiter = max(",;\t", key=header.count) if strict else ","
    reader = csv.reader(StringIO(text, newline=""), strict=strict, delimiter=delimiter)
    while True:
        line = reader.line_num + 1
        try:
            found = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            yield line, [], f"broken CSV: {error}"
            continue
        if any(cell.strip() for cell in found):
            yield line, found, ""


def _fields(columns: list[str], found: list[str]) -> dict[str, Any]:
    """The cells that hold anything by column; the numbers that pandas puts first are no column."""
    row = zip(columns, found, strict=True)
    return {
        column: cell
        for column, cell in row
        if not _MISSING.fullmatch(cell) and not (_NAMELESS.fullmatch(column) and cell.isdigit())
    }
