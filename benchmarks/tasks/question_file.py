"""File of questions, JSONL or CSV: a domain's own or any other in the same form.

JSONL: one object per line with `question`, `options` (a list; absent for an open answer) and
`answer` (an index from 0, a letter, or the text of an option), and, where wanted, `split`,
`support`, `cluster`, `domain`, `id`. CSV: a header with the same names, where the options are
in columns A, B, C, … or as a JSON list under `options`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from string import ascii_uppercase
from typing import Any, get_args

from benchmarks.tasks.base import (
    ALL_MODES,
    MAX_TOKENS,
    STOP,
    Example,
    NoSplit,
    Task,
    TaskRequest,
    data_digest,
    with_ids,
)
from benchmarks.tasks.csv_questions import csv_question_rows
from benchmarks.tasks.readers import jsonl_rows
from domainlift.errors import Malformed
from domainlift.types import Question, Split
from engines.base import Mode

SPLITS: dict[str, Split] = {split: split for split in get_args(Split)}

# Ending of the file -> how its rows are read.
READERS: dict[str, Callable[[Path], Iterator[tuple[int, dict[str, Any]]]]] = {
    ".jsonl": jsonl_rows,
    ".csv": csv_question_rows,
}


def load_question_file(request: TaskRequest) -> Task:
    """Load the questions of one split of a file; those of the train split are the examples."""
    path = request.file if request.file is not None else Path(request.name)
    every = _questions(path, request)
    questions = tuple(question for question in every if question.split == request.split)
    if not questions:
        splits = ", ".join(f"`{split}`" for split in sorted({q.split for q in every}))
        raise NoSplit(f"{path}: no question of the split `{request.split}`", f"it has {splits}")
    pool = () if request.split == "train" else tuple(q for q in every if q.split == "train")
    examples = tuple(Example(q, _reply(q)) for q in pool)
    closed = all(question.options for question in questions)
    return Task(
        name=request.name,
        domain=request.domain if request.domain else questions[0].domain,
        questions=questions,
        examples=examples,
        description="",
        mode=Mode.CLOZE if closed else Mode.GENERATE,
        modes=ALL_MODES if closed else frozenset({Mode.GENERATE}),
        shots=0,
        digest=data_digest(questions, examples),
        # Options are answered in a few words, an open question perhaps after some thought.
        stop=() if closed else STOP,
        max_tokens=0 if closed else MAX_TOKENS,
    )


def answer_index(answer: object, options: tuple[str, ...], *, digits: bool = False) -> int:
    """Read an index, a letter or an option's text; ValueError says what is wrong with it.

    With `digits`, a number written as text may be an index: a CSV file knows no other.
    """
    if isinstance(answer, int) and not isinstance(answer, bool):
        if not 0 <= answer < len(options):
            raise ValueError(f"answer {answer} is out of range (0 to {len(options) - 1})")
        return answer
    if not isinstance(answer, str):
        raise ValueError("answer is neither an index nor a letter nor the text of an option")
    meant = set(_meant(answer.strip(), options, digits))
    if len(meant) > 1:
        raise ValueError(f"answer `{answer}` can be read in two ways")
    if not meant:
        raise ValueError(f"answer `{answer}` is none of the {len(options)} options")
    return meant.pop()


def _meant(answer: str, options: tuple[str, ...], digits: bool) -> Iterator[int]:
    if answer in options:
        yield options.index(answer)
    if len(answer) == 1 and answer.upper() in ascii_uppercase[: len(options)]:
        yield ascii_uppercase.index(answer.upper())
    # At most two digits: there are no more than 26 options, and int() has a limit of its own.
    if digits and answer.isdecimal() and len(answer) < 3 and int(answer) < len(options):
        yield int(answer)


def _questions(path: Path, request: TaskRequest) -> tuple[Question, ...]:
    reader = READERS.get(path.suffix.lower(), jsonl_rows)
    drafts: list[Question] = []
    lines: dict[str, int] = {}
    for line, row in reader(path):
        try:
            draft = _draft(row, path, request)
            if draft.id and draft.id in lines:
                raise ValueError(f"id `{row['id']}` stands already on line {lines[draft.id]}")
        except ValueError as error:
            raise Malformed(path, str(error), line=line, hint=_hint(path)) from None
        lines[draft.id] = line
        drafts.append(draft)
    if not drafts:
        raise Malformed(path, "holds no question", hint=_hint(path))
    # Scoped by the file's name, not its place: a moved file keeps its ids.
    return with_ids(_scope(path, request), drafts)


def _draft(row: Mapping[str, Any], path: Path, request: TaskRequest) -> Question:
    options = _options(row)
    own_id = _word(row, "id")
    return Question(
        id=f"{_scope(path, request)}/{own_id}" if own_id else "",
        domain=request.domain or _word(row, "domain") or path.stem,
        task=request.name,
        text=_text(row),
        options=options,
        answer=_answer(row, options, digits=path.suffix.lower() == ".csv"),
        cluster=_word(row, "cluster"),
        split=_split(row),
        support=_word(row, "support"),
    )


def _scope(path: Path, request: TaskRequest) -> str:
    return request.rest if request.name.startswith("own:") else path.name


def _text(row: Mapping[str, Any]) -> str:
    if "question" not in row:
        raise ValueError("no `question`")
    text = row["question"]
    if not isinstance(text, str) or not text.strip():
        raise ValueError("`question` holds no text")
    return text.strip()


def _options(row: Mapping[str, Any]) -> tuple[str, ...]:
    given = row.get("options", row.get("choices"))
    if given is None:
        return ()
    if not isinstance(given, list) or not all(_is_plain(option) for option in given):
        raise ValueError("`options` is not a list of texts")
    options = tuple(str(option).strip() for option in given)
    if len(options) < 2 or len(options) > len(ascii_uppercase):
        raise ValueError(f"{len(options)} options, where 2 to {len(ascii_uppercase)} are needed")
    if "" in options:
        raise ValueError("an option is empty")
    twice = next((o for n, o in enumerate(options) if o in options[:n]), None)
    if twice is not None:
        raise ValueError(f"option `{twice}` stands there twice")
    return options


def _answer(row: Mapping[str, Any], options: tuple[str, ...], *, digits: bool) -> int | str:
    answer = row.get("answer")
    if answer is None or answer == "":
        raise ValueError("no `answer`")
    if options:
        return answer_index(answer, options, digits=digits)
    if not _is_plain(answer):
        raise ValueError("`answer` is neither a text nor a number")
    return str(answer).strip()


def _split(row: Mapping[str, Any]) -> Split:
    split = _word(row, "split") or "test"
    if split not in SPLITS:
        raise ValueError(f"split `{split}` is none of {', '.join(SPLITS)}")
    return SPLITS[split]


def _word(row: Mapping[str, Any], key: str) -> str:
    value = row.get(key)
    if value is not None and not _is_plain(value):
        raise ValueError(f"`{key}` is neither a text nor a number")
    return "" if value is None else str(value).strip()


def _is_plain(value: object) -> bool:
    return isinstance(value, str | int | float) and not isinstance(value, bool)


def _reply(question: Question) -> str:
    return question.answer if isinstance(question.answer, str) else ""


def _hint(path: Path) -> str:
    if path.suffix.lower() == ".csv":
        return "header: question,A,B,C,D,answer or question,options,answer; answer: a letter"
    return 'row: {"question": "…", "options": ["…", "…"], "answer": 0}'
