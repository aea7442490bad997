"""Reader of CSV files of questions; its rows have the form of a JSONL file's."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from itertools import takewhile
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from benchmarks.tasks.readers import csv_rows
from domainlift.errors import Malformed

HINT = "header: question,A,B,C,D,answer or question,options,answer"


def csv_question_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield (line, row) with the options as a list; the first row names the columns."""
    table = csv_rows(path)
    first, header = next(table, (1, []))
    columns = [cell.strip() for cell in header]
    _check_header(path, first, columns)
    for line, cells in table:
        if len(cells) != len(columns):
            what = f"row has {len(cells)} cells, the header {len(columns)}"
            raise Malformed(path, what, line=line, hint=HINT)
        try:
            yield line, _row(dict(zip(columns, cells, strict=True)))
        except ValueError as error:
            raise Malformed(path, str(error), line=line, hint=HINT) from None


def _check_header(path: Path, line: int, columns: list[str]) -> None:
    for needed in ("question", "answer"):
        if needed not in columns:
            has = ", ".join(f"`{column}`" for column in columns)
            raise Malformed(path, f"no column `{needed}` (it has {has})", line=line, hint=HINT)
    twice = next((c for n, c in enumerate(columns) if c in columns[:n]), None)
    if twice is not None:
        raise Malformed(path, f"column `{twice}` stands there twice", line=line, hint=HINT)


def _row(cells: Mapping[str, str]) -> dict[str, Any]:
    row: dict[str, Any] = {key: text for key, text in cells.items() if text.strip()}
    letters = list(takewhile(cells.__contains__, ascii_uppercase))
    if "options" in row:
        row["options"] = _json_list(row["options"])
    elif letters:
        row["options"] = _filled([cells[letter] for letter in letters])
    return row


def _json_list(text: str) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise ValueError("`options` is no JSON list") from None


def _filled(options: list[str]) -> list[str] | None:
    """Drop empty columns at the end; a row without any option has an open answer."""
    while options and not options[-1].strip():
        options.pop()
    return options or None
