"""Readers of training rows in the common formats, and a check of a file's problems.

A row's format follows from its keys (`finetune.data.formats.table`), so that one file may hold
several formats.
A conversation becomes one row per turn of the assistant, with all earlier turns as its context:
every answer is learned, and nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from domainlift.errors import Malformed
from finetune.data.cleaning import clean_field, clean_row
from finetune.data.formats.base import Fields, InvalidRow, Problem, optional
from finetune.data.formats.files import FileRow, items
from finetune.data.formats.table import FORMATS, find_format, unknown_keys
from finetune.data.rows import Row
from finetune.data.sources.questions import prompt_completion

if TYPE_CHECKING:
    from benchmarks.tasks.base import Task
    from domainlift.types import Question

__all__ = ["FORMATS", "Problem", "check_rows", "read_training_rows"]


def read_training_rows(
    path: Path,
    domain: str,
    *,
    licence: str = "",
    task: Task | None = None,
    skipped: Callable[[Problem], None] | None = None,
) -> Iterator[Row]:
    """Yield the rows of a JSONL file, a JSON list or a CSV table, cleaned.

    `licence` is that of rows which name none; questions are asked as `task` asks its own. A line
    with a problem is an error, or goes to `skipped` where that is given.
    """
    for item in items(path):
        rows, problems = _read(item, task)
        if not problems:
            for row in rows:
                yield _placed(row, item, path, domain, licence)
        elif skipped is None:
            hint = f"`bench data check {path}` shows every line that is wrong"
            raise Malformed(path, problems[0].what, line=item.line, hint=hint)
        else:
            for problem in problems:
                skipped(problem)


def check_rows(path: Path) -> list[Problem]:
    """Everything that is wrong with a file, by line."""
    problems: list[Problem] = []
    last = None
    for last in items(path):
        problems += _read(last, None)[1]
    return problems if last is not None else [Problem(1, "is empty")]


def _read(item: FileRow, task: Task | None) -> tuple[list[Row], list[Problem]]:
    if item.problem:
        return [], [Problem(item.line, item.problem)]
    problems: list[str] = []
    rows: list[Row] = []
    try:
        name = find_format(item.fields)
        problems += unknown_keys(item.fields, name)
        rows += [clean_row(_as_row(each, task)) for each in FORMATS[name].read(item.fields)]
        _provenance(item.fields)
    except InvalidRow as error:
        problems.append(str(error))
    if not all(row.completion.strip() for row in rows):
        problems.append("the answer holds nothing but control characters")
    return rows, [Problem(item.line, clean_field(what)) for what in problems]


def _as_row(made: Row | Question, task: Task | None) -> Row:
    return made if isinstance(made, Row) else Row(*prompt_completion(made, task), "")


def _placed(row: Row, item: FileRow, path: Path, domain: str, licence: str) -> Row:
    """The row with where it comes from; the turns of a conversation come from one place.

    A `source` of its own without a `#` names a collection, and not one place in it.
    """
    source, own = _provenance(item.fields)
    if "#" not in source:
        source = f"{source if source else path.name}#{item.line}"
    licence = own if own else licence
    return replace(row, domain=domain, kind="file", source=source, licence=licence)


def _provenance(fields: Fields) -> tuple[str, str]:
    licence = optional(fields, "licence") or optional(fields, "license")
    return clean_field(optional(fields, "source")), clean_field(licence)
