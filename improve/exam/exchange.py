"""Exams in files of other programs: JSON lines, and CSV for a spreadsheet."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from string import ascii_lowercase
from typing import Any

from domainlift.errors import Malformed, Misuse
from domainlift.files import write_text
from domainlift.jsonl import json_lines
from improve.exam.exam import Exam, ExamQuestion, json_object, question_from

_OPTION = "option_"
_FLAGS = ("taught", "known")


def export_questions(exam: Exam, path: Path) -> None:
    """Write the questions of an exam to a file, by its ending; Misuse for another one."""
    if path.suffix == ".jsonl":
        write_text(path, json_lines(asdict(each) for each in exam.questions))
    elif path.suffix == ".csv":
        write_text(path, _as_csv(exam.questions))
    else:
        raise Misuse(f"`{path}` ends neither in .jsonl nor in .csv", "choose one of them")


def import_questions(exam: Exam, path: Path) -> Exam:
    """The exam with the questions of a file that `export_questions` wrote and a person changed.

    Malformed where a row cannot be read, or an id stands there twice.
    """
    if not path.is_file():
        raise Misuse(f"no file `{path}`", f"`bench exam export {exam.name} {path}` writes one")
    rows = _csv_rows(path) if path.suffix == ".csv" else _json_rows(path)
    questions: dict[str, ExamQuestion] = {}
    for number, row in rows:
        question = question_from(row, path, number)
        if question.id in questions:
            raise Malformed(path, f"id `{question.id}` stands there twice", line=number)
        questions[question.id] = question
    if not questions:
        raise Malformed(path, "holds no question")
    return replace(exam, questions=tuple(questions.values()), edited=True)


def _as_csv(questions: Sequence[ExamQuestion]) -> str:
    most = max((len(each.options) for each in questions), default=0)
    options = [f"{_OPTION}{letter}" for letter in ascii_lowercase[:most]]
    names = [each.name for each in fields(ExamQuestion)]
    at = names.index("options")
    out = io.StringIO()
    writer = csv.DictWriter(out, [*names[:at], *options, *names[at + 1 :]])
    writer.writeheader()
    for each in questions:
        row = asdict(each)
        row.update(zip(options, row.pop("options"), strict=False))
        writer.writerow({**row, **{flag: str(row[flag]).lower() for flag in _FLAGS}})
    return out.getvalue()


def _csv_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig", newline="") as file:
        reader = csv.DictReader(file)
        for row in reader:
            yield reader.line_num, _plain(row, path, reader.line_num)


def _plain(row: Mapping[Any, Any], path: Path, line: int) -> dict[str, Any]:
    """A row with the types that it had before it was text."""
    if None in row or None in row.values():
        raise Malformed(path, "has more or fewer cells than columns", line=line)
    options = [row[key] for key in row if key.startswith(_OPTION) and row[key]]
    plain = {key: value for key, value in row.items() if not key.startswith(_OPTION)}
    try:
        plain["answer"] = int(plain["answer"])
    except (KeyError, ValueError):
        raise Malformed(path, "`answer` must be the index of an option", line=line) from None
    for flag in _FLAGS:
        if plain.get(flag, "").lower() not in ("true", "false"):
            raise Malformed(path, f"`{flag}` must be true or false", line=line)
        plain[flag] = plain[flag].lower() == "true"
    return {**plain, "options": options}


def _json_rows(path: Path) -> Iterator[tuple[int, dict[str, Any]]]:
    with path.open(encoding="utf-8-sig") as file:
        for number, line in enumerate(file, 1):
            if line.strip():
                yield number, json_object(path, line, number)
