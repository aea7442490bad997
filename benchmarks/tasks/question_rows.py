"""Reader of questions from the rows of files, whatever usual names their columns have.

`question`, `options` (a list; absent for an open answer) and `answer` (an index from 0, a letter,
or the text of an option) are required. An open answer may be a list of right ones, or of calls of
`tools`; `messages` are a chat that is asked instead of the question alone. The options may also be
keys with values, or stand in columns of their own: A, B, …; option_a, …; choice1, ….
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Any, get_args

from benchmarks.tasks.question_columns import (
    Columns,
    Options,
    plain_name,
    read_columns,
    read_options,
    unknown_columns,
)
from domainlift.errors import Malformed
from domainlift.fields import Fields, InvalidRow, from_json, is_plain, optional, text
from domainlift.row_files import file_rows
from domainlift.types import Question, Split

SPLITS: dict[str, Split] = {split: split for split in get_args(Split)}
# What other files call the splits; `dev` is not among them: some call their examples so.
_SPLITS: dict[str, Split] = SPLITS | {
    "training": "train",
    "val": "validation",
    "valid": "validation",
    "testing": "test",
}

_NUMBER = r"\s*-?\d{1,300}(\.\d+)?\s*"
_SEEN = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]")
_LETTER = re.compile(r"\(?([A-Za-z])[).:]?")


def read_question(fields: Fields, split: Split = "test", *, answered: bool = True) -> Question:
    """Read a row; its id and domain are what it says itself, "" where it says nothing.

    `split` is that of a row that names none. Unless all must be `answered`, a row may lack an
    answer, which is "" then.
    Raises InvalidRow where it can be read in no way, or in several.
    """
    columns = read_columns(fields)
    if "question" not in columns.values:
        raise InvalidRow("no `question`", "question")
    if not columns.answers and answered:
        raise InvalidRow("no `answer`", "answer")
    options = read_options(columns)
    context = optional(columns.values, "context").strip()
    asked = text(columns.values, "question").strip()
    answers = _answer(columns.answers, options) if columns.answers else ()
    for part in (asked, *options.texts, *map(str, answers)):
        if not _SEEN.search(part):
            raise InvalidRow(f"holds nothing but control characters: {part[:30]!r}")
    return Question(
        id=_word(columns, "id"),
        domain=_word(columns, "domain"),
        task="",
        text="\n".join(filter(None, [context, asked])),
        options=options.texts,
        answer=answers[0] if answers else "",
        cluster=_word(columns, "cluster"),
        split=_split(_word(columns, "split"), split),
        support=_word(columns, "support"),
        others=tuple(map(str, answers[1:])),
        tools=_tools(columns.values.get("tools")),
        messages=_messages(columns.values.get("messages")),
    )


def read_questions(
    path: Path, hint: str, *, answered: bool = True
) -> Iterator[tuple[int, Question]]:
    """Read the rows of a file with their lines; Malformed where one cannot be read.

    Two rows with one id cannot, and unless all must be `answered`, a row may lack an answer.
    """
    lines: dict[str, int] = {}
    for row in file_rows(path, hint):
        try:
            for error in unknown_columns(row.fields):
                raise error
            question = read_question(row.fields, answered=answered)
            if question.id in lines:
                raise InvalidRow(f"id `{question.id}` stands already on line {lines[question.id]}")
        except InvalidRow as error:
            raise Malformed(path, str(error), line=row.line, hint=hint) from None
        if question.id:
            lines[question.id] = row.line
        yield row.line, question


def answer_index(answer: object, options: Options, *, index: bool = False) -> int:
    """Read an index from 0, a letter, a name or the text of an option; with `index` that alone.

    Raises InvalidRow where the answer fits no option, or where its readings differ.
    """
    if not is_plain(answer):
        what = "answer is neither an index nor a letter nor the text of an option"
        raise InvalidRow(what, "answer")
    said = str(answer).strip()
    if options.labelled and said in options.names and not index:
        return options.names.index(said)
    meant = set(_positions(answer, options) if index else _readings(answer, said, options))
    if len(meant) > 1:
        raise InvalidRow(f"answer `{said[:60]}` can be read in two ways: {_two(meant)}", "answer")
    if not meant:
        n = len(options.values)
        number = isinstance(answer, int)
        fault = f"is out of range (0 to {n - 1})" if number else f"is none of the {n} options"
        raise InvalidRow(f"answer {said[:60] if number else f'`{said[:60]}`'} {fault}", "answer")
    return meant.pop()


def _readings(answer: Any, said: str, options: Options) -> Iterator[int]:
    """Every option that the answer may mean."""
    yield from _positions(answer, options)
    yield from (n for n, value in enumerate(options.values) if _same(answer, value))
    if isinstance(answer, str):
        letter = _LETTER.fullmatch(said)
        if letter and letter[1].upper() in ascii_uppercase[: len(options.values)]:
            yield ascii_uppercase.index(letter[1].upper())
        if said and plain_name(said) in options.names:
            yield options.names.index(plain_name(said))


def _same(answer: Any, value: Any) -> bool:
    """Whether an answer gives an option as it stands there.

    JSON tells a number from a text: 2 does not mean the option "2", but the option 2.
    """
    if isinstance(answer, str) and (isinstance(value, str) or not re.fullmatch(_NUMBER, answer)):
        return answer.strip() == str(value).strip()
    number = float(answer) if isinstance(answer, str) else answer
    return not isinstance(value, str) and bool(number == value)


def _positions(answer: Any, options: Options) -> Iterator[int]:
    """The option of this number, from 0 and, where the columns are numbered otherwise, from there.

    A number in a table is a text.
    """
    number = _number(answer)
    if number is not None:
        for place in {number, number - options.first}:
            if 0 <= place < len(options.values):
                yield place


def _number(answer: Any) -> int | None:
    """The whole number that an answer is; pandas writes 2.0 in a column that lacks a value."""
    if isinstance(answer, str):
        # At most two digits: there are no more than 26 options, and int() has a limit of its own.
        match = re.fullmatch(r"(\d{1,2})(\.0)?", answer.strip(), re.ASCII)
        return int(match[1]) if match else None
    return int(answer) if int(answer) == answer else None


def _two(meant: set[int]) -> str:
    first, second = sorted(meant)[:2]
    letters = f"{ascii_uppercase[first]} or {ascii_uppercase[second]}"
    return f"option {letters} (write the letter)"


# --- the values


def _answer(answers: Mapping[str, Any], options: Options) -> tuple[int | str, ...]:
    """The answer that all of its columns give, and others that are right too."""
    read = {
        key: (_one_answer(key, value, options),) if options.values else _open_answers(key, value)
        for key, value in answers.items()
    }
    if len(set(read.values())) > 1:
        first, second = list(read)[:2]
        raise InvalidRow(f"`{first}` and `{second}` give different answers", second, first)
    return next(iter(read.values()))


def _one_answer(key: str, value: Any, options: Options) -> int:
    if value == "":
        raise InvalidRow(f"`{key}` is empty", key)
    name = plain_name(key)
    index = name.endswith(("index", "idx")) and _number_like(value)
    # Where data sets have a label or gold, it counts from 0 whatever their columns are called.
    if index or name in ("label", "gold"):
        options = Options(options.values, options.names, 0, options.labelled)
    return answer_index(value, options, index=index)


def _open_answers(key: str, value: Any) -> tuple[str, ...]:
    """A text, a list of texts (also as SQuAD has it, under `text`), or a list of calls."""
    if isinstance(value, Mapping) and isinstance(value.get("text"), list):
        value = value["text"]
    if isinstance(value, list) and all(isinstance(each, Mapping) for each in value) and value:
        return (json.dumps(value, ensure_ascii=False),)
    if value == []:
        raise InvalidRow(f"`{key}` is empty", key)
    texts = isinstance(value, list) and all(isinstance(each, str) for each in value)
    several = value if texts else [value]
    return tuple(dict.fromkeys(text({key: each}, key).strip() for each in several))


def _tools(value: Any) -> str:
    """Descriptions of functions as JSON, "" for none."""
    tools = from_json(value, "`tools`")
    if not tools:
        return ""
    if not isinstance(tools, list) or not all(isinstance(each, Mapping) for each in tools):
        raise InvalidRow("`tools` must be a list of descriptions of functions", "tools")
    return json.dumps(tools, ensure_ascii=False)


def _messages(value: Any) -> str:
    """A chat in OpenAI's form as JSON, "" for none."""
    messages = from_json(value, "`messages`")
    if not messages:
        return ""
    if not isinstance(messages, list) or not all(map(_is_message, messages)):
        raise InvalidRow("`messages` must be a list of messages in the form of OpenAI's API")
    return json.dumps(messages, ensure_ascii=False)


def _is_message(value: Any) -> bool:
    if not isinstance(value, Mapping) or not isinstance(value.get("role"), str):
        return False
    calls = value.get("tool_calls") or []
    if not isinstance(value.get("content"), str) or not isinstance(calls, list):
        return False
    return all(
        isinstance(call, Mapping)
        and isinstance(call.get("function"), Mapping)
        and isinstance(call["function"].get("name"), str)
        for call in calls
    )


def _number_like(value: Any) -> bool:
    return is_plain(value) and _number(value) is not None


def _split(name: str, default: Split) -> Split:
    split = _SPLITS.get(name.lower(), default if not name else None)
    if split is None:
        raise InvalidRow(f"split `{name}` is none of {', '.join(SPLITS)}", "split")
    return split


def _word(columns: Columns, key: str) -> str:
    return optional(columns.values, key).strip()
