"""The exam of a domain: its file, the splits of its facts, and the questions that are asked.

A fact is either taught or not. A taught one has training wordings and one wording that is examined;
the others are examined only, so that no training row tells them. So held-out wordings measure what
an adapter has learned, and held-out facts what only passages can tell.

    exams/NAME/exam.jsonl     every question, with its passage and kind; a person may edit it
    exams/NAME/exam.json      what it was made of, and the yield of each kind
    exams/NAME/NAME.jsonl     the questions that are asked, as `--task` reads them
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from domainlift.errors import BenchError, Malformed, Misuse, NoSuch
from domainlift.files import exclusive_lock, safe_join, write_json, write_text
from domainlift.jsonl import json_lines
from domainlift.workspace import Workspace

#: Splits of a question. A probe is neither asked nor learned: it finds out what is known already.
TRAIN, VALIDATION, TEST, PROBE = SPLITS = ("train", "validation", "test", "probe")
#: The kind of questions that were made of feedback; they stay when an exam is made anew.
FEEDBACK = "feedback"
SCHEMA = 1


@dataclass(frozen=True)
class ExamQuestion:
    """One wording of a fact, with the passage that holds the answer.

    `answer` is the index of the right option, and `support` names the passage as knowledge bases
    do. `taught` says whether training rows tell the fact,
    `known` that the base model knew it without any passage: then none of its questions is asked.
    """

    id: str
    question: str
    options: tuple[str, ...]
    answer: int
    passage: str
    source: str
    kind: str
    split: str
    fact: str
    wording: str
    support: str = ""
    taught: bool = True
    known: bool = False

    @property
    def is_examined(self) -> bool:
        """Whether it is for choosing or for the report, and neither learned nor a probe."""
        return self.split in (VALIDATION, TEST)

    @property
    def right(self) -> str:
        """The text of the right option."""
        return self.options[self.answer]


@dataclass(frozen=True)
class KindYield:
    """Yield of one kind of fact: what was looked at, what is kept, and why the rest is not."""

    asked: int
    kept: int
    rejected: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Exam:
    """The questions of a domain, made from a `generation` of its knowledge base.

    `known_by` is the digest of the model whose knowledge was set aside, "" before that; `edited`
    says that a person changed the questions since they were made.
    """

    name: str
    questions: tuple[ExamQuestion, ...]
    by_kind: Mapping[str, KindYield]
    generation: str = ""
    made_by: str = ""
    known_by: str = ""
    edited: bool = False

    @property
    def asked(self) -> tuple[ExamQuestion, ...]:
        """The questions of facts that the model does not know, but for probes."""
        return tuple(each for each in self.questions if not each.known and each.split != PROBE)

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that change with every word of the questions."""
        content = json.dumps([asdict(each) for each in self.questions], ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()[:16]

    def counts(self) -> dict[str, Any]:
        """The object `exam` of `bench improve --docs --json`."""
        return {
            "digest": self.digest,
            "facts": len({each.fact for each in self.questions}),
            "questions": sum(each.split != TRAIN for each in self.asked),
            "training_questions": sum(each.split == TRAIN for each in self.asked),
            "known": len({each.fact for each in self.questions if each.known}),
            "by_kind": {kind: asdict(each) for kind, each in self.by_kind.items()},
        }


@dataclass(frozen=True)
class ExamFiles:
    """Where the exam of a domain is kept."""

    workspace: Path
    name: str

    @property
    def folder(self) -> Path:
        """The folder of the exam; BenchError where the name leads out of the workspace."""
        return safe_join(Workspace(self.workspace).exams, self.name)

    @property
    def rows(self) -> Path:
        """Every question."""
        return self.folder / "exam.jsonl"

    @property
    def about(self) -> Path:
        """What the exam was made of."""
        return self.folder / "exam.json"

    @property
    def task(self) -> Path:
        """The questions that are asked, in the form of any file of questions."""
        return self.folder / f"{self.name}.jsonl"


def write_exam(files: ExamFiles, exam: Exam) -> None:
    """Write an exam and the file of questions made of it."""
    files.folder.mkdir(parents=True, exist_ok=True)
    with exclusive_lock(
        files.folder / ".lock", f"exam `{exam.name}` is being written", "wait for it"
    ):
        about = {
            "schema": SCHEMA,
            "name": exam.name,
            "generation": exam.generation,
            "made_by": exam.made_by,
            "known_by": exam.known_by,
            "edited": exam.edited,
            "digest": exam.digest,
            "by_kind": {kind: asdict(each) for kind, each in exam.by_kind.items()},
        }
        write_text(files.rows, json_lines(asdict(each) for each in exam.questions))
        write_text(files.task, json_lines(_task_row(each) for each in exam.asked))
        write_json(files.about, about)


def read_exam(files: ExamFiles) -> Exam:
    """Read an exam; BenchError where there is none, Malformed where a line cannot be read."""
    if not files.about.is_file() or not files.rows.is_file():
        known, make = exam_names(files.workspace), f"bench exam make {files.name}"
        raise NoSuch("exam", files.name, known, "bench exam list", make)
    about = json_object(files.about, files.about.read_text(encoding="utf-8"), None)
    try:
        by_kind = {kind: KindYield(**each) for kind, each in about["by_kind"].items()}
        keys = ("generation", "made_by", "known_by", "edited")
        return Exam(files.name, _questions(files.rows), by_kind, **{k: about[k] for k in keys})
    except (KeyError, TypeError) as error:
        raise Malformed(files.about, f"is no exam: {error}") from None


def exam_names(workspace: Path) -> list[str]:
    """The domains that have an exam."""
    return sorted(path.parent.name for path in Workspace(workspace).exams.glob("*/exam.json"))


def without_questions(exam: Exam, ids: Iterable[str]) -> Exam:
    """The exam without some questions, and without the training wordings that only they had.

    A fact of which nothing is examined any more is not taught either. NoSuch for an unknown id.
    """
    dropped = set(ids)
    known = {each.id for each in exam.questions}
    for name in sorted(dropped - known):
        raise NoSuch("question", name, known)
    left = [each for each in exam.questions if each.id not in dropped]
    examined = {each.fact for each in left if each.is_examined}
    kept = tuple(each for each in left if each.fact in examined)
    return replace(exam, questions=kept, edited=True)


def with_feedback(exam: Exam, questions: Iterable[ExamQuestion]) -> Exam:
    """The exam with those of the questions that were made of feedback, once each."""
    made = {each.id: each for each in questions if each.kind == FEEDBACK}
    own = tuple(each for each in exam.questions if each.id not in made)
    return replace(exam, questions=(*own, *made.values()))


def with_changed_question(
    exam: Exam,
    question_id: str,
    question: str | None = None,
    options: Sequence[str] | None = None,
    answer: str | None = None,
) -> Exam:
    """The exam with another wording, other options or another answer of a question.

    NoSuch for an unknown id, Misuse where the answer is not one of the options.
    """
    old = next((each for each in exam.questions if each.id == question_id), None)
    if old is None:
        raise NoSuch("question", question_id, (each.id for each in exam.questions))
    choices = tuple(options) if options is not None else old.options
    right = answer if answer is not None else old.right
    if right not in choices or len(set(choices)) < len(choices):
        raise Misuse(
            "the answer must be one of the options, and each option stands there once",
            "give all of them: `--option A --option B --answer A`",
        )
    text = question if question is not None else old.question
    new = replace(old, question=text, options=choices, answer=choices.index(right))
    questions = tuple(new if each.id == question_id else each for each in exam.questions)
    return replace(exam, questions=questions, edited=True)


def split_of_fact(rank: int, count: int) -> tuple[str, bool]:
    """Split of the examined wording of the fact at this place in random order, and if it is taught.

    Three of ten facts are not taught; four of ten are for choosing and six for the report.
    """
    place = 10 * rank // max(1, count)
    taught = place < 7
    validation = place in (0, 1, 2, 7) if count >= 10 else rank % 2 == 0
    return (VALIDATION if validation else TEST), taught


def _task_row(question: ExamQuestion) -> dict[str, Any]:
    return {
        "id": question.id,
        "question": question.question,
        "options": list(question.options),
        "answer": question.answer,
        "split": question.split,
        "cluster": question.fact,
        "support": question.support,
    }


def _questions(path: Path) -> tuple[ExamQuestion, ...]:
    lines = path.read_text(encoding="utf-8").split("\n")
    return tuple(
        question_from(json_object(path, line, number), path, number)
        for number, line in enumerate(lines, 1)
        if line.strip()
    )


_TYPES: Mapping[str, type] = {
    **dict.fromkeys(("id", "question", "passage", "source", "kind", "fact", "wording"), str),
    "support": str,
    "split": str,
    "answer": int,
    "taught": bool,
    "known": bool,
}


def question_from(row: Mapping[str, Any], path: Path, line: int) -> ExamQuestion:
    """A question from the row of a file; Malformed where it is none."""
    names = {each.name for each in fields(ExamQuestion)}
    wrong = sorted(names - row.keys() | row.keys() - names)
    if wrong:
        raise Malformed(path, f"missing or unknown: {', '.join(wrong)}", line=line)
    options = row["options"]
    for key, kind in _TYPES.items():
        if type(row[key]) is not kind:
            raise Malformed(path, f"`{key}` must be of the type {kind.__name__}", line=line)
    if not isinstance(options, list) or not all(isinstance(each, str) for each in options):
        raise Malformed(path, "`options` must be a list of texts", line=line)
    if not 0 <= row["answer"] < len(options):
        raise Malformed(path, "`answer` must be the index of an option, from 0", line=line)
    if row["split"] not in SPLITS:
        raise Malformed(path, f"no split `{row['split']}`", line=line)
    return ExamQuestion(**{**row, "options": tuple(options)})


def json_object(path: Path, text: str, line: int | None) -> dict[str, Any]:
    """Read the object of a file, or of a line of it; Malformed where it is none."""
    try:
        value = json.loads(text)
    except ValueError as error:
        raise Malformed(path, f"not JSON: {error}", line=line) from None
    if not isinstance(value, dict):
        raise Malformed(path, "not an object", line=line)
    return value


def check_enough(exam: Exam, least: int) -> None:
    """BenchError where fewer questions are left than a verdict needs."""
    count = sum(each.split == TEST for each in exam.asked)
    if count < least:
        known = sum(each.known for each in exam.questions)
        because = ", most of them because the model knows the answers" if known > count else ""
        raise BenchError(
            f"the exam `{exam.name}` has {count} questions to report on, and a verdict needs "
            f"{least}{because}",
            "give more documents, or questions of your own: `bench improve --task FILE`",
        )


def facts_of(questions: Sequence[ExamQuestion]) -> dict[str, list[ExamQuestion]]:
    """The questions of each fact."""
    facts: dict[str, list[ExamQuestion]] = {}
    for each in questions:
        facts.setdefault(each.fact, []).append(each)
    return facts
