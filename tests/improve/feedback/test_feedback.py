"""Marks on replies: kept, split by question, and used only when accepted."""

from __future__ import annotations

import json
import string
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.errors import BenchError, Malformed, Misuse
from improve.exam.exam import Exam, ExamFiles, ExamQuestion, read_exam, with_feedback, write_exam
from improve.feedback.accept import accept
from improve.feedback.marks import FeedbackMark, FeedbackStore, MarkState, Use, count_marks, use_of
from improve.feedback.reply_log import ReplyLog, ServedReply


def served(
    number: int = 0, question: str = "How long is the leave?", **more: object
) -> ServedReply:
    made = ServedReply(
        f"{number:024x}",
        "2026-01-01T00:00:00",
        "v0003",
        "ab" * 32,
        "base",
        question,
        "20 days",
        "handbook",
        None,
        True,
        0.7,
        ({"source": "leave.md", "text": "The leave is 28 days."},),
    )
    return replace(made, **more)


def question_for(use: Use) -> str:
    return next(q for n in range(99) if use_of(q := f"What is number {n}?") is use)


def exam(*rights: str) -> Exam:
    made = (
        ExamQuestion(
            f"q{n}", f"Question {n}?", (right, "no"), 0, "p", "s", "number", "test", f"f{n}", "gap"
        )
        for n, right in enumerate(rights)
    )
    return Exam("handbook", tuple(made), {})


def test_the_log_keeps_the_last_replies_only(tmp_path: Path) -> None:
    log = ReplyLog(tmp_path, 3)
    for number in range(5):
        log.add(served(number))
    assert [each.id for each in log.newest()] == [served(n).id for n in (4, 3, 2)]
    assert log.get("latest") == served(4)
    assert log.get(f"chatcmpl-{served(3).id}") == served(3)
    for name in (served(1).id, "0", "", "%"):  # forgotten, of several, of none
        with pytest.raises(Misuse, match="no reply"):
            log.get(name)


def test_nothing_is_kept_where_nothing_shall_be(tmp_path: Path) -> None:
    log = ReplyLog(tmp_path, 0)
    log.add(served())
    assert not log.path.exists()
    assert log.newest() == []


def test_what_was_forgotten_is_not_in_the_file(tmp_path: Path) -> None:
    log = ReplyLog(tmp_path, 1)
    log.add(served(1, "The secret is xylophone"))
    log.add(served(2, "Another question"))
    assert b"xylophone" not in log.path.read_bytes()


def test_many_processes_may_write_the_log(tmp_path: Path) -> None:
    threads = [
        threading.Thread(target=lambda n=n: ReplyLog(tmp_path).add(served(n))) for n in range(20)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(ReplyLog(tmp_path).newest()) == 20


def test_the_last_mark_on_a_reply_counts_until_it_is_decided(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path)
    store.add(served(1), "wrong")
    mark = store.add(served(1), "right")
    store.add(served(2), "wrong", " 28 days ")
    assert [(m.verdict, m.correction) for m in store.marks()] == [
        ("right", ""),
        ("wrong", "28 days"),
    ]
    store.decide(mark, MarkState.REJECTED, "because")
    assert [m.id for m in store.marks(MarkState.QUEUED)] == [served(2).id]
    assert store.get(mark.id).why == "because"
    with pytest.raises(Misuse, match="rejected already"):
        store.add(served(1), "wrong")
    with pytest.raises(BenchError, match="decided on already"):
        store.decide(mark, MarkState.ACCEPTED, "")
    assert count_marks(store.marks()) == {("wrong", "queued"): 1, ("right", "rejected"): 1}


@pytest.mark.parametrize(
    ("verdict", "correction"), [("maybe", ""), ("", ""), ("wrong", "x" * 4001)]
)
def test_what_is_no_mark_is_refused(tmp_path: Path, verdict: str, correction: str) -> None:
    with pytest.raises(Misuse):
        FeedbackStore(tmp_path).add(served(), verdict, correction)
    assert FeedbackStore(tmp_path).marks() == []


def test_a_torn_line_is_no_mark_and_a_wrong_one_is_named(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path)
    store.add(served(1), "wrong")
    with store.path.open("a") as file:
        file.write('{"id": "x"')
    assert len(store.marks()) == 1
    store.add(served(2), "right")
    assert len(store.marks()) == 2
    with store.path.open("a") as file:
        file.write('{"reply": 3}\n')
    with pytest.raises(Malformed, match=r"marks\.jsonl:3"):
        store.marks()


@given(st.text(string.ascii_letters + " ?!,.", min_size=1), st.sampled_from("?!. "))
def test_one_question_is_never_for_both(question: str, sign: str) -> None:
    assert use_of(question) is use_of(f"  {question.upper()}{sign}")


def test_about_half_of_the_questions_are_for_the_exam() -> None:
    exams = sum(use_of(f"Question {n}") is Use.EXAM for n in range(1000))
    assert 440 < exams < 560


def marked(
    root: Path, use: Use, verdict: str = "wrong", correction: str = "28 days"
) -> FeedbackMark:
    return FeedbackStore(root).add(served(7, question_for(use)), verdict, correction)


def test_a_row_is_made_when_it_is_accepted_and_not_before(tmp_path: Path) -> None:
    mark = marked(tmp_path, Use.ROWS)
    assert not list(tmp_path.rglob("rows"))
    path = accept(tmp_path, mark)
    row = {
        "question": mark.reply.question,
        "answer": "28 days",
        "id": mark.id,
        "source": "feedback",
    }
    assert [json.loads(line) for line in path.read_text().splitlines()] == [row]
    assert FeedbackStore(tmp_path).get(mark.id).state is MarkState.ACCEPTED
    from finetune.data.formats import read_training_rows

    assert [r.completion.strip() for r in read_training_rows(path, "handbook")] == ["28 days"]


def test_a_question_has_one_row_with_its_newest_answer(tmp_path: Path) -> None:
    store = FeedbackStore(tmp_path)
    for number, answer in enumerate(("27 days", "28 days")):
        question = question_for(Use.ROWS) + "!" * number
        path = accept(tmp_path, store.add(served(number, question), "wrong", answer))
    assert [json.loads(line)["answer"] for line in path.read_text().splitlines()] == ["28 days"]


def test_a_question_of_the_exam_is_examined_and_not_taught(tmp_path: Path) -> None:
    files = ExamFiles(tmp_path, "handbook")
    write_exam(files, exam("30 days", "Tuesday", "14 days", "28 days", "28", "7 weeks"))
    accept(tmp_path, marked(tmp_path, Use.EXAM))
    found = read_exam(files)
    made = found.questions[-1]
    assert (made.right, made.taught, made.kind) == ("28 days", False, "feedback")
    assert made.is_examined
    assert (made.passage, made.support) == ("The leave is 28 days.", "leave.md")
    assert set(made.options) == {"28 days", "30 days", "14 days", "7 weeks"}
    assert not found.edited
    assert made.id in files.task.read_text()


def test_a_new_exam_keeps_the_questions_of_feedback(tmp_path: Path) -> None:
    before = with_feedback(
        exam("1"), (replace(exam("1").questions[0], id="mine", kind="feedback"),)
    )
    again = with_feedback(exam("1", "2"), before.questions)
    assert [q.id for q in again.questions] == ["q0", "q1", "mine"]
    assert with_feedback(again, before.questions) == again


def test_wrong_options_may_be_named_and_are_needed(tmp_path: Path) -> None:
    mark = marked(tmp_path, Use.EXAM)
    for wrong in ((), ("28 Days",)):
        with pytest.raises(Misuse, match="needs wrong options"):
            accept(tmp_path, mark, wrong=wrong)
    assert FeedbackStore(tmp_path).get(mark.id).state is MarkState.QUEUED
    accept(tmp_path, mark, wrong=("30 days", "20 days"))
    (made,) = read_exam(ExamFiles(tmp_path, "handbook")).questions
    assert set(made.options) == {"28 days", "30 days", "20 days"}


@pytest.mark.parametrize(
    ("verdict", "correction", "domain", "what"),
    [("wrong", "", "handbook", "right one is not known"), ("right", "", "", "to no domain")],
)
def test_what_is_not_known_is_asked_for(
    tmp_path: Path, verdict: str, correction: str, domain: str, what: str
) -> None:
    reply = served(7, question_for(Use.ROWS), domain=domain)
    mark = FeedbackStore(tmp_path).add(reply, verdict, correction)
    with pytest.raises(Misuse, match=what):
        accept(tmp_path, mark)
    assert accept(tmp_path, mark, "handbook", "28 days").is_file()


def test_an_answer_marked_right_is_the_right_one(tmp_path: Path) -> None:
    path = accept(tmp_path, marked(tmp_path, Use.ROWS, "right", ""))
    assert json.loads(path.read_text())["answer"] == "20 days"
