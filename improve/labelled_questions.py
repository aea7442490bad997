"""Reader of files of questions with the domains that they belong to, for routers."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.tasks.question_columns import read_columns, read_options
from domainlift.errors import Malformed, NoSuch
from domainlift.fields import Fields, InvalidRow, optional, text, unknown_key
from domainlift.row_files import file_rows
from ensemble.fit.training_data import GENERAL, Labelled
from ensemble.router.decision import BASE

#: What a row says of a question whose domain nobody knows; it is left out.
MIXED = "mixed"


def read_labelled(path: Path, known: Collection[str]) -> list[Labelled]:
    """Questions of a file: `question`, `options`, `domain`, and `also` for others that are right.

    `base` is no domain; rows of `mixed` domains are left out. `source` says where a question comes
    from, the file's name where it says nothing. Malformed names file, line and key.
    """
    rows: list[Labelled] = []
    for row in file_rows(path):
        try:
            found = _row(row.fields, path, known)
        except InvalidRow as error:
            raise Malformed(path, str(error), line=row.line) from None
        except NoSuch as error:
            raise Malformed(path, error.what, line=row.line, hint=error.hint) from None
        if found.domain != MIXED:
            rows.append(found)
    if not rows:
        raise Malformed(path, "holds no question with a domain", hint=_EXAMPLE)
    return rows


def as_training(rows: Sequence[Labelled]) -> list[Labelled]:
    """The rows to learn from; general knowledge is what is asked of no domain."""
    return [
        replace(row, split="train", domain=GENERAL if row.domain == BASE else row.domain)
        for row in rows
    ]


_EXAMPLE = 'row: {"question": "…", "domain": "history"}'


def _row(fields: Fields, path: Path, known: Collection[str]) -> Labelled:
    also = fields.get("also", ())
    columns = read_columns({key: value for key, value in fields.items() if key != "also"})
    for key in columns.unknown:
        raise unknown_key(key, ("question", "options", "domain", "also", "source"))
    if "domain" not in columns.values:
        raise InvalidRow("no `domain`", "domain")
    domain = text(columns.values, "domain").strip()
    if not isinstance(also, list | tuple) or not all(isinstance(each, str) for each in also):
        raise InvalidRow("`also` must be a list of domains", "also")
    for name in (domain, *also):
        if name not in known and name not in (BASE, MIXED):
            raise NoSuch("domain", name, [*known, BASE, MIXED], "bench domains")
    source = optional(fields, "source") or path.stem
    asked = text(columns.values, "question").strip()
    options = read_options(columns, answerable=False).texts
    return Labelled(asked, options, domain, "test", source, tuple(also))
