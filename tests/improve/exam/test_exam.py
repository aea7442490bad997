"""The exam: its options, splits, file, and a person's changes."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.prompts import PromptBuilder, question_block, without_passages
from benchmarks.runs.store import Record
from benchmarks.tasks.base import TaskRequest
from benchmarks.tasks.question_file import load_question_file
from domainlift.errors import BenchError, Malformed, NoSuch
from domainlift.text.contamination import QuestionIndex
from domainlift.types import Treatment
from engines.base import EngineInfo, Message, Mode
from finetune.data.formats import read_training_rows
from finetune.data.prepare import prepare_rows
from finetune.data.sources.cloze import BLANK
from improve.exam.as_served import gives, served_job
from improve.exam.exam import (
    PROBE,
    TEST,
    TRAIN,
    VALIDATION,
    Exam,
    ExamFiles,
    check_enough,
    facts_of,
    read_exam,
    without_questions,
    write_exam,
)
from improve.exam.exchange import export_questions, import_questions
from improve.exam.make import make_exam
from improve.exam.rows import Search, as_chat, exam_rows
from improve.exam.scores import exam_scores
from rag.base import Chunk, Hit

NAMES = [
    *("Anselm Dorrit", "Piet Valcourt", "Signe Abarca", "Rufus Adeyemi", "Lotte Marchetti"),
    *("Oskar Pellew", "Edda Thorsby", "Joris Falk", "Yusra Lindqvist", "Bram Okafor"),
]
THINGS = ["pump", "barometer", "lathe", "boat", "tower", "bridge", "mill", "clock", "stove", "loom"]


@pytest.fixture(scope="module")
def exam() -> Exam:
    """Forty facts in twenty chunks."""
    chunks = [
        Chunk(
            f"The {thing} was built by {NAMES[n]}. The {thing} stands for {n + 11} days a year.",
            f"{thing}.md",
            thing.capitalize(),
        )
        for n, thing in enumerate(THINGS)
    ] + [
        Chunk(f"The price of the {thing} is {n + 30} euros.", f"prices.md#{thing}", "Prices")
        for n, thing in enumerate(THINGS)
    ]
    return make_exam("works", "g1", chunks)


def test_every_fact_is_examined_in_one_wording_that_no_training_row_has(exam: Exam) -> None:
    facts = facts_of(exam.questions)
    assert len(facts) == 30
    for own in facts.values():
        examined = [each for each in own if each.split in (VALIDATION, TEST)]
        assert len(examined) == 1
        assert examined[0].question not in {q.question for q in own if q.split == TRAIN}
        assert {each.split for each in own if each not in examined} == (
            {TRAIN} if own[0].taught else {PROBE}
        )


def test_seven_of_ten_facts_are_taught_and_six_are_reported(exam: Exam) -> None:
    examined = [each for each in exam.questions if each.split in (VALIDATION, TEST)]
    assert Counter(each.taught for each in examined) == {True: 21, False: 9}
    assert Counter(each.split for each in examined) == {TEST: 18, VALIDATION: 12}


def test_options_are_of_one_kind_and_the_right_one_is_at_every_place(exam: Exam) -> None:
    for split in (TRAIN, TEST):
        places = Counter(each.answer for each in exam.questions if each.split == split)
        assert len(places) == 4
        assert max(places.values()) - min(places.values()) <= 1
    for each in exam.questions:
        assert len(set(each.options)) == 4
        others = [option for option in each.options if option != each.right]
        assert each.right in each.passage
        assert not any(other in each.passage for other in others)
        if each.kind == "money":
            assert all(option.endswith("euros") for option in each.options)


def test_the_same_chunks_make_the_same_exam_and_a_file_keeps_it(exam: Exam, tmp_path: Path) -> None:
    files = ExamFiles(tmp_path, "works")
    write_exam(files, exam)
    assert read_exam(files) == exam
    task = load_question_file(TaskRequest(str(files.task), "", "", file=files.task, split="test"))
    assert {q.id.rpartition("/")[2] for q in task.questions} == {
        each.id for each in exam.questions if each.split == TEST
    }
    assert all(question.support and question.cluster for question in task.questions)


def test_a_known_fact_is_set_aside_and_stays_in_the_file(exam: Exam, tmp_path: Path) -> None:
    fact = exam.questions[0].fact
    known = tuple(replace(each, known=each.fact == fact) for each in exam.questions)
    files = ExamFiles(tmp_path, "works")
    write_exam(files, replace(exam, questions=known))
    assert fact not in files.task.read_text(encoding="utf-8")
    assert fact in files.rows.read_text(encoding="utf-8")
    assert read_exam(files).counts()["known"] == 1


def test_a_dropped_question_takes_its_training_wordings_along(exam: Exam) -> None:
    question = next(each for each in exam.questions if each.split == TEST and each.taught)
    smaller = without_questions(exam, [question.id])
    assert question.fact not in {each.fact for each in smaller.questions}
    assert smaller.edited
    assert smaller.digest != exam.digest
    with pytest.raises(NoSuch):
        without_questions(exam, ["nothing"])


@pytest.mark.parametrize("ending", [".csv", ".jsonl"])
def test_an_exam_goes_out_and_comes_back(exam: Exam, tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"works{ending}"
    export_questions(exam, path)
    assert import_questions(exam, path).questions == exam.questions


@pytest.mark.parametrize(
    ("old", "new", "what"),
    [
        ('"answer": 0', '"answer": 9', "answer"),
        ('"split": "train"', '"split": "tarin"', "tarin"),
        ('"kind"', '"knid"', "knid"),
        ("{", "[", "JSON"),
    ],
)
def test_a_changed_file_that_is_wrong_is_refused_with_its_line(
    exam: Exam, tmp_path: Path, old: str, new: str, what: str
) -> None:
    path = tmp_path / "works.jsonl"
    export_questions(exam, path)
    lines = path.read_text(encoding="utf-8").split("\n")
    row = next(n for n, line in enumerate(lines) if old in line)
    lines[row] = lines[row].replace(old, new, 1)
    path.write_text("\n".join(lines), encoding="utf-8")
    with pytest.raises(Malformed, match=f":{row + 1}: .*{what}"):
        import_questions(exam, path)


def test_too_few_questions_are_said_with_their_number(exam: Exam) -> None:
    check_enough(exam, 18)
    with pytest.raises(BenchError, match="18 questions to report on, and a verdict needs 19"):
        check_enough(exam, 19)


def test_no_wrong_options_are_a_reason_in_the_yield() -> None:
    made = make_exam("one", "g1", [Chunk("The pump was built by Anselm Dorrit.", "a.md")])
    assert not made.questions
    assert made.by_kind["name"].rejected == {"too few wrong options of its kind": 1}


def test_what_fills_a_gap_is_not_in_the_sentence(exam: Exam) -> None:
    for each in exam.questions:
        if each.wording == "gap":
            assert BLANK in each.question
            assert each.right not in each.question


def test_an_exam_is_json(exam: Exam) -> None:
    counts = json.loads(json.dumps(exam.counts()))
    assert counts["facts"] == 30
    assert counts["by_kind"]["money"]["kept"] == 10


@pytest.mark.parametrize(
    ("reply", "right"),
    [
        ("Copper.", True),
        ("The funnel is made of copper, which does not rust.", True),
        ("It is made of marble.", False),
        ("Copper or marble.", False),
        ("I do not find this in your documents.", False),
        ("coppersmiths made it", False),
        ("", False),
    ],
)
def test_a_served_reply_is_right_where_it_holds_the_answer_and_no_other(
    exam: Exam, reply: str, right: bool
) -> None:
    question = replace(exam.questions[0], options=("the copper", "marble", "oak", "tin"), answer=0)
    assert gives(reply, question) is right


@pytest.mark.parametrize(
    ("options", "reply", "right"),
    [
        (("thirty-two", "nine", "forty", "six"), "It seats 32 people.", True),
        (("32", "9", "40", "6"), "Thirty-two.", True),
        (("7 crowns", "9 crowns", "4 crowns", "3 crowns"), "seven crowns", True),
        (("two hundred", "nine", "forty", "six"), "It holds 200 barrels.", True),
        (("eleven", "ten", "six", "two"), "11 metres, not ten.", False),
        (("eleven", "ten", "six", "two"), "111", False),
        (("one boat", "ten", "six", "two"), "one boat", True),
    ],
)
def test_a_number_is_the_same_in_words_and_in_digits(
    exam: Exam, options: tuple[str, ...], reply: str, right: bool
) -> None:
    assert gives(reply, replace(exam.questions[0], options=options, answer=0)) is right


def found_in(exam: Exam) -> Search:
    """A search that finds all passages of an exam, first what holds most words of the query."""
    chunks = {each.passage: each for each in exam.questions}

    def search(queries: Sequence[str], k: int) -> list[list[Hit]]:
        hits = [
            Hit(Chunk(text, each.support, ""), 1, len(set(query.split()) & set(text.split())))
            for query in queries
            for text, each in chunks.items()
        ]
        parts = [hits[n : n + len(chunks)] for n in range(0, len(hits), len(chunks))]
        return [sorted(part, key=lambda hit: -hit.score)[:k] for part in parts]

    return search


@pytest.mark.parametrize("chat", [True, False])
def test_rows_ask_as_the_exam_is_served_alone_and_behind_passages(exam: Exam, chat: bool) -> None:
    rows = exam_rows(exam, found_in(exam), chat=chat)
    alone = [row for row in rows if row.kind == "question"]
    behind = [row for row in rows if row.kind != "question"]
    train = {each.id: each for each in exam.asked if each.split == TRAIN}
    assert {row.source for row in alone} == set(train)
    assert len({train[row.source].fact for row in behind}) == len(behind)
    assert len(behind) == len({each.fact for each in train.values()})
    info = EngineInfo("x", "m", "d", 2048, frozenset(Mode), has_chat_template=chat)
    job = served_job(exam, TEST, info)
    builder = PromptBuilder(job.tasks[0], job.formats[job.tasks[0].name])
    for row in rows:
        each = train[row.source]
        text = each.question if chat else question_block(each.question)
        asked = builder.request(replace(job.questions[0], text=text), Treatment()).prompt
        held = row.messages[0].content if chat else row.prompt
        assert without_passages(held) == (asked.messages[0].content if chat else asked.text)
        assert row.completion == (each.right if chat else f" {each.right}")
        if row in behind:
            assert each.right in held.removesuffix(text)


def test_a_row_of_feedback_is_asked_as_a_person_asks(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl"
    row = {"question": "Who sorts the mail?", "answer": "Sigrid Moe", "id": "1", "source": "x"}
    path.write_text(json.dumps(row) + "\n", encoding="utf-8")
    (read,) = read_training_rows(path, "works")
    chat = as_chat(read)
    assert [turn.content for turn in chat.messages] == ["Who sorts the mail?"]
    assert (chat.prompt, chat.completion) == ("", "Sigrid Moe")
    assert as_chat(chat) == chat


def test_rows_hold_no_examined_question(exam: Exam, tmp_path: Path) -> None:
    files = ExamFiles(tmp_path, "works")
    write_exam(files, exam)
    asked = [
        question
        for split in (VALIDATION, TEST)
        for question in load_question_file(
            TaskRequest(str(files.task), "", "", file=files.task, split=split)
        ).questions
    ]
    rows = exam_rows(exam, found_in(exam), chat=True)
    leaking = replace(rows[0], messages=(Message("user", asked[0].text),))
    index = QuestionIndex(asked, short=True)
    made = prepare_rows(
        "works", [*rows, leaking], benchmark=index, folder=tmp_path / "rows", all_trained=True
    )
    assert made.leaked == 1
    assert made.validation == made.held_out == 0
    assert made.train >= len(rows) - 2  # near copies of one another


def test_the_served_question_is_the_bare_one(exam: Exam) -> None:
    info = EngineInfo("x", "m", "d", 2048, frozenset(Mode), has_chat_template=True)
    job = served_job(exam, TEST, info)
    builder = PromptBuilder(job.tasks[0], job.formats[job.tasks[0].name])
    asked = job.questions[0]
    request = builder.request(asked, Treatment())
    assert [each.content for each in request.prompt.messages] == [asked.text]
    assert asked.text in {each.question for each in exam.questions}


@pytest.mark.parametrize("chat", [True, False])
def test_the_options_of_a_served_question_are_scored_behind_the_same_prompt(
    exam: Exam, chat: bool
) -> None:
    info = EngineInfo("x", "m", "d", 2048, frozenset(Mode), has_chat_template=chat)
    prompts = []
    for mode in (Mode.GENERATE, Mode.CLOZE):
        job = served_job(exam, TEST, info, mode)
        builder = PromptBuilder(job.tasks[0], job.formats[job.tasks[0].name])
        request = builder.request(job.questions[0], Treatment())
        prompts.append((request.prompt.text, request.prompt.messages))
    assert prompts[0] == prompts[1]
    asked = next(each for each in exam.asked if each.split == TEST)
    assert request.options == tuple(("" if chat else " ") + each for each in asked.options)
    assert job.questions[0].answer == asked.answer


def test_scores_of_facts_and_wordings_are_kept_apart(exam: Exam) -> None:
    tests = [each for each in exam.questions if each.split == TEST]
    records = [Record(f"works.jsonl/{each.id}", "works", "t", "ok", each.taught) for each in tests]
    scores = exam_scores(exam, {"base": records}, {}, {})
    assert scores.wordings["base"].accuracy == 1.0
    assert scores.facts["base"].accuracy == 0.0
    assert scores.facts["base"].n + scores.wordings["base"].n == len(tests)
