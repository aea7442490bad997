"""Columns of a question under any of their usual names, and its options as they stand there."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from string import ascii_lowercase, ascii_uppercase
from typing import Any

from domainlift.fields import Fields, InvalidRow, from_json, is_plain, kind_name, unknown_key

#: Column -> what other files call it, in small letters and digits alone.
COLUMNS: dict[str, tuple[str, ...]] = {
    "question": ("questiontext", "questionstem", "stem", "query", "problem", "prompt", "input"),
    "options": ("choices", "endings", "candidates", "answerchoices", "answeroptions"),
    "answer": (
        *("label", "gold", "target", "correct", "correctanswer", "correctoption", "correctchoice"),
        *("answerkey", "answerindex", "answeridx", "answerletter", "correctindex", "correctidx"),
        *("goldanswer", "goldlabel", "goldindex", "labelindex", "groundtruth", "ideal"),
        *("answers", "references", "reference"),
    ),
    "context": ("passage", "article", "paragraph"),
    "split": (),
    "cluster": (),
    "support": (),
    "tools": (),
    "messages": (),
    "domain": (),
    "id": ("questionid", "qid"),
}
#: Keys that any row of a file may have; `source` and `licence` go into the data card.
COMMON = (
    *("id", "source", "licence", "license", "domain", "kind", "category", "dataset", "metadata"),
    *("language", "lang", "difficulty"),
)
# Keys that tell people about a question, and that nothing here reads.
_REMARKS = (
    *("subject", "topic", "explanation", "rationale", "tags", "level", "type", "year", "url"),
    *("idx", "index", "src", "author", "note", "notes"),
)
_KNOWN = {
    **{name: column for column, names in COLUMNS.items() for name in (column, *names)},
    **dict.fromkeys((*COMMON, *_REMARKS), ""),
    **{"id": "id", "domain": "domain"},
}
# A letter glued to a word is no plural: `options`, `answers`.
_OPTION = re.compile(
    r"(?:(?:option|choice|answer|alternative|opt|ans)(?!s$)|)([a-z])"
    r"|(?:option|choice|answer|alternative|ending|sol|opt|ans)(\d{1,2})"
)


@dataclass(frozen=True)
class Options:
    """Options as they stand in the file; an answer may name one by its own name in `names`.

    `first` is the number of the first where they are numbered. With `labelled`, the file itself
    says how an answer names an option.
    """

    values: Sequence[Any] = ()
    names: Sequence[str] = ()
    first: int = 0
    labelled: bool = False

    @property
    def texts(self) -> tuple[str, ...]:
        """The texts of the options."""
        return tuple(str(value).strip() for value in self.values)


@dataclass
class Columns:
    """A row's values by our names of columns; answers keep their own names."""

    values: dict[str, Any] = field(default_factory=dict)
    named: dict[str, str] = field(default_factory=dict)
    answers: dict[str, Any] = field(default_factory=dict)
    options: dict[int, tuple[str, Any]] = field(default_factory=dict)
    lettered: bool = False
    unknown: list[str] = field(default_factory=list)


def is_question(fields: Fields) -> bool:
    """Whether a row has a question and an answer."""
    columns = read_columns(fields)
    return "question" in columns.values and bool(columns.answers)


def unknown_columns(fields: Fields) -> list[InvalidRow]:
    """What is wrong with keys that a question does not have."""
    known = [*COLUMNS, *COMMON, *(name for names in COLUMNS.values() for name in names)]
    known += [f"{word}_{place}" for word in ("option", "choice") for place in "abcde12345"]
    return [unknown_key(key, known) for key in read_columns(fields).unknown]


def plain_name(key: str) -> str:
    """A key in small letters and digits: `Correct Answer`, `correct_answer`, `correctAnswer`."""
    return re.sub(r"[\W_]+", "", key.lower())


def read_columns(fields: Fields) -> Columns:
    """A row's values by column; InvalidRow where two keys hold the same."""
    made = Columns()
    for key, value in fields.items():
        name = plain_name(key)
        column = _KNOWN.get(name)
        if column is None:
            _own_column(name, key, value, made)
        elif column == "answer":
            made.answers[key] = value
        elif column and column in made.values:
            what = f"`{made.named[column]}` and `{key}` both say the {column}"
            raise InvalidRow(what, key, column)
        elif column:
            made.values[column], made.named[column] = value, key
    return made


def read_options(columns: Columns, *, answerable: bool = True) -> Options:
    """The options of a row, none where its answer is open; InvalidRow where they cannot be read.

    With `answerable`, that is where one of them could not be told from the others, too.
    """
    name = columns.named.get("options", "")
    if name and columns.options:
        own = next(iter(columns.options.values()))[0]
        raise InvalidRow(f"options stand in `{name}`, and in columns such as `{own}`", own)
    given = from_json(columns.values.get("options"), f"`{name}`")
    options = _in_columns(columns) if columns.options else _listed(given, name)
    if options.values and answerable:
        _check(options.texts)
    return options


def _listed(given: Any, name: str) -> Options:
    """Options in a list, or by their labels: {"A": …, "B": …}, {"text": […], "label": […]}."""
    labels: Sequence[Any] = ()
    if isinstance(given, Mapping):
        if {"text", "label"} == set(given) and isinstance(given["label"], list):
            given, labels = given["text"], given["label"]
        else:
            labels, given = list(given), list(given.values())
        if not isinstance(given, list) or len(labels) != len(given):
            raise InvalidRow(f"`{name}` has not one label for each option", name)
    if given is None or given in ("", []):
        return Options()
    if not isinstance(given, list) or not all(map(is_plain, given)):
        raise InvalidRow(f"`{name}` must be a list of texts, not {_not_texts(given)}", name)
    return Options(given, [str(label).strip() for label in labels], labelled=bool(labels))


def _not_texts(given: Any) -> str:
    if not isinstance(given, list):
        return kind_name(given)
    return "one with " + kind_name(next(each for each in given if not is_plain(each)))


def _own_column(name: str, key: str, value: Any, made: Columns) -> None:
    """Note an option that has a column of its own."""
    match = _OPTION.fullmatch(name)
    if match is None:
        made.unknown.append(key)
        return
    place = ascii_lowercase.index(match[1]) if match[1] else int(match[2])
    if place in made.options:
        what = f"`{made.options[place][0]}` and `{key}` hold the same option"
        raise InvalidRow(what, key, made.options[place][0])
    if not is_plain(value):
        raise InvalidRow(f"`{key}` is neither a text nor a number", key)
    made.options[place] = (key, value)
    made.lettered = made.lettered or bool(match[1])


def _in_columns(columns: Columns) -> Options:
    """Options in columns of their own, in order; empty ones may stand at the end alone."""
    found = columns.options
    first = 0 if columns.lettered or 0 in found else 1
    missing = next(
        (place for place in range(first, first + len(found)) if place not in found), None
    )
    if missing is not None:
        shown = ", ".join(f"`{key}`" for key, _ in found.values())
        raise InvalidRow(f"an option is empty: number {missing - first + 1} beside {shown}")
    ordered = [found[place] for place in sorted(found)]
    return Options([value for _, value in ordered], [plain_name(key) for key, _ in ordered], first)


def _check(texts: tuple[str, ...]) -> None:
    if not 2 <= len(texts) <= len(ascii_uppercase):
        count = f"{len(texts)} option{'s' * (len(texts) != 1)}"
        what = f"{count}, where 2 to {len(ascii_uppercase)} are needed"
        raise InvalidRow(what, "options")
    if "" in texts:
        raise InvalidRow("an option is empty", "options")
    twice = next((option for n, option in enumerate(texts) if option in texts[:n]), None)
    if twice is not None:
        raise InvalidRow(f"option `{twice}` stands there twice", "options")
