"""Readers of JSONL and CSV files: rows, each with its line number."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterator
from io import StringIO
from pathlib import Path
from typing import Any

from domainlift.errors import Malformed

LARGEST = 200 * 2**20
_UTF8_BOM = b"\xef\xbb\xbf"
_UTF16_BOMS = (b"\xff\xfe", b"\xfe\xff")


def read_text(path: Path) -> str:
    """Return the text of a UTF-8 file that is neither empty nor over 200 MB."""
    raw = _read_bytes(path)
    if _is_utf16(raw):
        raise Malformed(path, "is UTF-16, not UTF-8", hint="save it again as UTF-8")
    try:
        text = raw.removeprefix(_UTF8_BOM).decode("utf-8")
    except UnicodeDecodeError as error:
        line = raw[: error.start].count(b"\n") + 1
        what = f"is not UTF-8 (byte 0x{error.object[error.start]:02x})"
        raise Malformed(path, what, line=line, hint="save it again as UTF-8") from None
    if not text.strip():
        raise Malformed(path, "is empty", hint="write one question per row")
    return text


def jsonl_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, object) for each row of a JSONL file; blank lines are skipped."""
    # Not splitlines(): it also cuts at line separators that may stand inside a JSON string.
    for line, row in enumerate(read_text(path).split("\n"), start=1):
        if row.strip():
            yield line, _object(path, line, row)


def csv_rows(path: Path, *, strict: bool = True) -> Iterator[tuple[int, list[str]]]:
    """Yield (line, cells) for each row of a CSV file; cells may hold line breaks."""
    reader = csv.reader(StringIO(read_text(path), newline=""), strict=strict)
    line = 1
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                yield line, cells
            line = reader.line_num + 1
    except csv.Error as error:
        hint = "close every quotation mark, and write one inside a cell twice"
        raise Malformed(path, f"broken CSV row ({error})", line=line, hint=hint) from None


def _read_bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        if size > LARGEST:
            raise Malformed(
                path,
                f"has {size / 2**20:.0f} MB, and at most {LARGEST // 2**20} MB are read",
                hint="split it into smaller files",
            )
        return path.read_bytes()
    except OSError as error:
        raise Malformed(path, f"cannot be read ({error.strerror})") from None


def _is_utf16(raw: bytes) -> bool:
    # Without a byte-order mark, Latin text in UTF-16 shows itself by its zero bytes.
    return raw.startswith(_UTF16_BOMS) or b"\0" in raw[:200]


def _object(path: Path, line: int, row: str) -> dict[str, Any]:
    hint = "each line is one JSON object"
    try:
        value = json.loads(row)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", type(error).__name__)
        raise Malformed(path, f"broken JSON row ({reason})", line=line, hint=hint) from None
    if not isinstance(value, dict):
        raise Malformed(path, "row is not a JSON object", line=line, hint=hint)
    return value
