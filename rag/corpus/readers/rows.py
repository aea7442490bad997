"""Readers of JSON Lines, JSON, CSV and data sets of the hub: one section per record."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from io import StringIO
from pathlib import Path
from typing import Any

from domainlift.errors import Malformed
from domainlift.hub_datasets import hub_rows
from rag.corpus.readers import books, mitre
from rag.corpus.readers.base import Section, SourceFile
from rag.corpus.readers.text import clean_line, clean_text, decode, lines, read_bytes

Row = Mapping[str, Any]

#: Keys under which a record may hold its text, its title and its name; the first one counts.
TEXTS = ("text", "contents", "content", "passage", "support", "description", "abstract", "body")
TITLES = ("title", "name", "heading", "section")
IDS = ("_id", "id", "doc_id", "docid", "stix_id", "pmid")
LICENCES = ("licence", "license")
_SHOWN = 6
_SEPARATORS = ",;\t"

#: What a record of a known kind has, and what reads it.
KINDS: tuple[tuple[Callable[[Row], bool], Callable[[Row], Section | None]], ...] = (
    (books.is_section, books.section),
    (mitre.is_weakness, mitre.weakness),
    (mitre.is_object, mitre.attack_entry),
)


def read_jsonl(file: SourceFile) -> Iterator[Section]:
    """Read one JSON object per line."""
    path = file.local_path
    return _sections(path, ((n, _parsed(path, line, n)) for n, line in lines(path) if line.strip()))


def read_json(file: SourceFile) -> Iterator[Section]:
    """Read a STIX bundle, a list of records, an object that holds one list, or one record."""
    path = file.local_path
    value = _parsed(path, decode(path, read_bytes(path)), None)
    if isinstance(value, dict):
        lists = [v for v in value.values() if isinstance(v, list) and v and isinstance(v[0], dict)]
        value = lists[0] if len(lists) == 1 and not _has_text(value) else [value]
    if not isinstance(value, list):
        raise Malformed(path, "holds no records", hint="a list of objects is read")
    return _sections(path, enumerate(value, 1))


def read_csv(file: SourceFile) -> Iterator[Section]:
    """Read a CSV file with a header."""
    path = file.local_path
    text = decode(path, read_bytes(path))
    return _sections(path, _csv_rows(path, text) if text.strip() else ())


def read_hub(file: SourceFile) -> Iterator[Section]:
    """Read a split of a data set of the hub; no code of the data set is run."""
    name, _, split = file.label.removeprefix("hf:").partition(":")
    rows = hub_rows(name, None, split if split else "train")
    return _sections(Path(file.label), enumerate(rows, 1))


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, Row]]:
    header = text.partition("\n")[0]
    separator = max(_SEPARATORS, key=header.count)
    csv.field_size_limit(2**31 - 1)  # its default refuses a cell of 128 kB
    reader = csv.DictReader(StringIO(text, newline=""), delimiter=separator, strict=True)
    line = 1
    try:
        line += 1 if reader.fieldnames else 0
        for row in reader:
            yield line, row
            line = reader.line_num + 1
    except csv.Error as error:
        hint = "close every quotation mark, and write one inside a cell twice"
        what = f"broken CSV row ({error})"
        raise Malformed(path, what, line=line, hint=hint) from None


def _parsed(path: Path, text: str, line: int | None) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        reason = getattr(error, "msg", type(error).__name__)
        at = getattr(error, "lineno", None) if line is None else line
        hint = "each line is one JSON object" if line is not None else None
        raise Malformed(path, f"broken JSON ({reason})", line=at, hint=hint) from None


def _sections(path: Path, rows: Iterable[tuple[int, Any]]) -> Iterator[Section]:
    for number, row in rows:
        if not isinstance(row, dict):
            raise Malformed(path, "row is not an object", line=number)
        read = next((read for fits, read in KINDS if fits(row)), None)
        section = _generic(path, number, row) if read is None else read(row)
        if section is not None and section.text:
            yield section


def _generic(path: Path, number: int, row: Row) -> Section:
    if not _has_text(row):
        names = [f"`{name}`" for name in list(row)[:_SHOWN]]
        what = f"row has no text, only {', '.join(names)}" if names else "row is empty"
        hint = f"its text stands under one of {', '.join(f'`{key}`' for key in TEXTS)}"
        raise Malformed(path, what, line=number, hint=hint)
    title = clean_line(_first(row, TITLES))
    return Section(
        text=clean_text(_first(row, TEXTS)),
        headings=(title,) if title else (),
        record=clean_line(_first(row, IDS)) or title or str(number),
        licence=clean_line(_first(row, LICENCES)),
    )


def _has_text(row: Row) -> bool:
    return any(isinstance(row.get(key), str | list) for key in TEXTS)


def _first(row: Row, keys: Iterable[str]) -> str:
    """The first value that is there, a list of texts as paragraphs."""
    for key in keys:
        value = row.get(key)
        if isinstance(value, list):
            value = "\n\n".join(part for part in value if isinstance(part, str))
        if isinstance(value, str | int) and not isinstance(value, bool) and str(value).strip():
            return str(value)
    return ""
