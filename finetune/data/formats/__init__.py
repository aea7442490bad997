"""Readers of training rows in the common formats, and a check of a file's problems.

A row's format follows from its keys (`finetune.data.formats.table`), so that one file may hold
several formats.
A conversation becomes one row per turn of the assistant, with all earlier turns as its context:
every answer is learned, and nothing else.
"""

from __future__ import annotations

import shlex
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from string import ascii_uppercase
from typing import Any

from benchmarks.tasks.base import Task
from benchmarks.tasks.question_rows import read_question
from domainlift.errors import Malformed
from domainlift.fields import Fields, InvalidRow, Problem, optional
from domainlift.row_files import TABLES, FileRow, items
from domainlift.types import Question
from finetune.data.cleaning import clean_field, clean_row, equal_sides
from finetune.data.formats.table import FORMATS, QUESTION, find_format, unknown_keys, usual_names
from finetune.data.rows import Row
from finetune.data.sources.questions import prompt_completion

__all__ = ["FORMATS", "FileCheck", "Problem", "check_rows", "read_training_rows"]

#: As many rows a check shows as it understood them.
SHOWN = 3


@dataclass
class FileCheck:
    """Everything that is wrong with a file, by line, and how its first rows were read."""

    problems: list[Problem] = field(default_factory=list)
    understood: list[Mapping[str, Any]] = field(default_factory=list)


def read_training_rows(path: Path, domain: str, *, task: Task | None = None) -> Iterator[Row]:
    """Yield the rows of a JSONL file, a JSON list or a table, cleaned.

    Questions are asked as `task` asks its own. A line with a problem is an error.
    """
    for item in items(path):
        read = _read(item)
        if read.problems:
            hint = f"`bench data check {shlex.quote(str(path))}` shows every line that is wrong"
            raise Malformed(path, read.problems[0].what, line=item.line, hint=hint)
        for each in read.rows:
            yield _placed(_as_row(each, task), item, path, domain)


def check_rows(path: Path) -> FileCheck:
    """Read a file of training rows or questions as it would be read, without an end at a fault."""
    check = FileCheck()
    ids: dict[str, int] = {}
    columns: set[str] = set()
    item = None
    for item in items(path):
        read = _read(item)
        check.problems += _once(read.problems, columns, path)
        if any(isinstance(row, Row) and equal_sides(row) for row in read.rows):
            what = "`chosen` and `rejected` are equal: nothing is preferred"
            check.problems.append(Problem(item.line, what, "rejected"))
        own_id = read.question.id if read.question is not None else ""
        if own_id in ids:
            what = f"id `{own_id}` stands already on line {ids[own_id]}"
            check.problems.append(Problem(item.line, what, "id"))
        if own_id:
            ids.setdefault(own_id, item.line)
        if len(check.understood) < SHOWN and not read.problems:
            check.understood.append(read.as_json(item.line))
    if item is None:
        check.problems.append(Problem(1, "is empty"))
    return check


def _once(problems: list[Problem], columns: set[str], path: Path) -> Iterator[Problem]:
    """The problems; that of a table's column is that of its header, and is said once."""
    for problem in problems:
        if path.suffix.lower() not in TABLES or not problem.what.startswith("unknown key"):
            yield problem
        elif problem.column not in columns:
            columns.add(problem.column)
            yield replace(problem, line=1)


@dataclass
class _Read:
    """What a row of a file becomes, and what is wrong with it."""

    format: str = ""
    rows: list[Row | Question] = field(default_factory=list)
    question: Question | None = None
    problems: list[Problem] = field(default_factory=list)

    def as_json(self, line: int) -> dict[str, Any]:
        """The row as it was understood."""
        if self.question is None:
            rows = [_shown(row) for row in self.rows if isinstance(row, Row)]
            return {"line": line, "format": self.format, "rows": rows}
        return {"line": line, "format": self.format, **_shown_question(self.question)}


def _read(item: FileRow) -> _Read:
    read = _Read()
    faults = [InvalidRow(item.problem)] if item.problem else []
    if not item.problem:
        try:
            _read_fields(usual_names(item.fields), read, faults)
        except InvalidRow as error:
            faults.append(error)
    if not all(row.completion.strip() for row in read.rows if isinstance(row, Row)):
        faults.append(InvalidRow("the answer holds nothing but control characters"))
    read.problems += [
        Problem(item.line, clean_field(str(fault)), clean_field(fault.column), fault.nearest)
        for fault in faults
    ]
    return read


def _read_fields(fields: Fields, read: _Read, faults: list[InvalidRow]) -> None:
    read.format = find_format(fields)
    faults += unknown_keys(fields, read.format)
    for made in FORMATS[read.format].read(fields):
        read.rows.append(clean_row(made) if isinstance(made, Row) else made)
    if read.format == QUESTION:
        read.question = read_question(fields)
    _provenance(fields)


def _shown_question(question: Question) -> dict[str, Any]:
    """A question as `bench run` reads it, without what is empty."""
    answer = question.answer
    shown = {
        "question": question.text,
        "options": list(question.options),
        "answer": question.answer_text,
        "letter": ascii_uppercase[answer] if isinstance(answer, int) else "",
        **{key: getattr(question, key) for key in ("split", "id", "domain", "cluster", "support")},
    }
    return {key: value for key, value in shown.items() if value}


def _shown(row: Row) -> dict[str, Any]:
    """What is read and what is learned from it, without what is empty."""
    shown = asdict(row)
    keys = ("prompt", "messages", "tools", "completion", "rejected")
    return {key: shown[key] for key in keys if shown[key]}


def _as_row(made: Row | Question, task: Task | None) -> Row:
    if isinstance(made, Row):
        return made
    return clean_row(Row(*prompt_completion(made, task), ""))


def _placed(row: Row, item: FileRow, path: Path, domain: str) -> Row:
    """The row with where it comes from; the turns of a conversation come from one place.

    A `source` of its own without a `#` names a collection, and not one place in it.
    """
    source, licence = _provenance(item.fields)
    if "#" not in source:
        source = f"{source if source else path.name}#{item.line}"
    return replace(row, domain=domain, kind="file", source=source, licence=licence)


def _provenance(fields: Fields) -> tuple[str, str]:
    licence = optional(fields, "licence") or optional(fields, "license")
    return clean_field(optional(fields, "source")), clean_field(licence)
