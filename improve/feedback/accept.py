"""What becomes of a mark that a person accepts: a training row, or a question of the exam."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

from domainlift.errors import Misuse
from domainlift.files import write_text
from domainlift.jsonl import json_lines, read_log
from domainlift.sampling import hash_order
from domainlift.text.normalise import words
from domainlift.workspace import Workspace
from improve.exam.distractors import N_WRONG, normal
from improve.exam.exam import (
    FEEDBACK,
    TEST,
    VALIDATION,
    Exam,
    ExamFiles,
    ExamQuestion,
    exam_names,
    read_exam,
    with_feedback,
    write_exam,
)
from improve.feedback.marks import FeedbackMark, FeedbackStore, MarkState, Use

#: Of a hundred questions of the exam, those that something is chosen by; the others are reported.
_VALIDATION = 40


def accept(
    workspace: Path,
    mark: FeedbackMark,
    domain: str = "",
    correction: str = "",
    wrong: Sequence[str] = (),
) -> Path:
    """Make a row or a question of a mark; the file that holds it.

    `domain` is that of the reply, and `correction` that of the mark, where they are "". `wrong` are
    wrong options; where there are none, they are right answers to other questions of the exam.
    Misuse where the domain, the right answer or wrong ones are not known.
    """
    domain = domain or mark.reply.domain
    if not domain:
        hint = f"`bench feedback accept {mark.id[:8]} --domain DOMAIN`"
        raise Misuse("the question was routed to no domain", hint)
    right = correction.strip() or mark.right
    if not right:
        hint = f"`bench feedback accept {mark.id[:8]} --correction TEXT`"
        raise Misuse("the answer was wrong, and the right one is not known", hint)
    add = _add_row if mark.use is Use.ROWS else _add_question
    path = add(workspace, mark, domain, right, wrong)
    FeedbackStore(workspace).decide(mark, MarkState.ACCEPTED, f"{mark.use.value} of `{domain}`")
    return path


def _add_row(
    workspace: Path, mark: FeedbackMark, domain: str, right: str, _: Sequence[str]
) -> Path:
    path = Workspace(workspace).feedback_rows(domain)
    rows = list(read_log(path, dict, "not a row", "take the line out"))
    own = " ".join(words(mark.reply.question))
    row = {"question": mark.reply.question, "answer": right, "id": mark.id, "source": FEEDBACK}
    # One question has one answer: the newest.
    kept = [each for each in rows if " ".join(words(str(each["question"]))) != own]
    write_text(path, json_lines([*kept, row]))
    return path


def _add_question(
    workspace: Path, mark: FeedbackMark, domain: str, right: str, wrong: Sequence[str]
) -> Path:
    files = ExamFiles(workspace, domain)
    exam = read_exam(files) if domain in exam_names(workspace) else Exam(domain, (), {})
    question = mark.reply.question
    key = hashlib.sha256(" ".join(words(question)).encode("utf-8", "replace")).hexdigest()[:16]
    options = list(wrong) or _wrong_answers(
        exam, key, right, [p["text"] for p in mark.reply.passages]
    )
    if not options or any(normal(each) == normal(right) for each in options):
        hint = f"`bench feedback accept {mark.id[:8]} --wrong TEXT --wrong TEXT`"
        raise Misuse("a question of the exam needs wrong options, none of them right", hint)
    order = hash_order(key, FEEDBACK)
    place = order[0] % (len(options) + 1)
    options.insert(place, right)
    best = next(iter(mark.reply.passages), {"text": "", "source": ""})
    made = ExamQuestion(
        id=f"{key}-{FEEDBACK}",
        question=question,
        options=tuple(options),
        answer=place,
        passage=best["text"],
        source=best["source"],
        kind=FEEDBACK,
        split=VALIDATION if order[1] * 100 // 256 < _VALIDATION else TEST,
        fact=key,
        wording="question",
        support=best["source"],
        taught=False,
    )
    write_exam(files, with_feedback(exam, (*exam.questions, made)))
    return files.task


def _wrong_answers(exam: Exam, key: str, right: str, passages: Sequence[str]) -> list[str]:
    """Right answers to other questions that look like this one, and that no passage holds."""
    own = normal(right)
    found: dict[str, str] = {}
    likely = sorted(exam.questions, key=lambda q: (_unlike(q.right, right), hash_order(q.id, key)))
    for each in likely:
        other = normal(each.right)
        inside = f" {other} " in f" {own} " or f" {own} " in f" {other} "
        if not inside and not any(f" {other} " in f" {normal(text)} " for text in passages):
            found.setdefault(other, each.right)
    return list(found.values())[:N_WRONG]


def _unlike(other: str, right: str) -> int:
    """How little an answer looks like the right one, by its first character and its words."""
    digits = other[:1].isdigit() != right[:1].isdigit()
    return 10 * digits + abs(len(other.split()) - len(right.split()))
