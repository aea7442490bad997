from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.prompts import PromptFormat
from benchmarks.tasks.base import Task
from benchmarks.tasks.gsm8k import final_number
from benchmarks.tasks.hub_or_mirror import hub_split, mirror_file
from benchmarks.tasks.mmlu import MMLU, SUBJECTS
from benchmarks.tasks.registry import load_task
from domainlift.errors import BenchError, Malformed, Misuse, NoSuch
from domainlift.types import Question, Split
from engines.base import Mode
from knowledge_bases.domains import Domain

DATA = os.environ.get("BENCH_DATA")
real = pytest.mark.skipif(not DATA, reason="BENCH_DATA is not set")
LONG = "The castle stood on a hill above the river. " * 6


def load(name: str, data: Path, split: Split = "test") -> Task:
    return load_task(name, data=data, domains={}, split=split)


def write_mmlu(data: Path, split: str, rows: list[list[str]], subject: str = "anatomy") -> Path:
    path = data / "mmlu" / split / f"{subject}_{split}.csv"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows(rows)  # ends its lines in CRLF
    return path


def write_jsonl(path: Path, rows: list[dict[str, object]]) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def row(question: str, answer: str = "B") -> list[str]:
    return [question, "one", "two", "three", "four", answer]


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write_mmlu(tmp_path, "dev", [row(f"dev {n}?", "ABCDA"[n]) for n in range(5)])
    write_mmlu(tmp_path, "val", [row("val?")])
    write_mmlu(tmp_path, "test", [row(" broken\nover lines? "), row("twice?"), row("twice?", "C")])
    solved: dict[str, object] = {
        "question": "How much?",
        "answer": "3 * 4 = <<3*4=12>>12\n#### 1,212",
    }
    write_jsonl(tmp_path / "gsm8k" / "test.jsonl", [solved])
    train: list[dict[str, object]] = [{**solved, "question": f"train {n}?"} for n in range(10)]
    write_jsonl(tmp_path / "gsm8k" / "train.jsonl", train)
    science: dict[str, object] = {"question": "Why?", "choices": ["a", "b", "c"], "answer": 2}
    write_jsonl(tmp_path / "arc" / "ARC-Easy" / "test.jsonl", [science])
    many: list[dict[str, object]] = [{**science, "question": f"train {n}?"} for n in range(30)]
    write_jsonl(tmp_path / "arc" / "ARC-Easy" / "train.jsonl", many)
    write_jsonl(tmp_path / "arc" / "ARC-Challenge" / "test.jsonl", [science])
    return tmp_path


def test_mmlu(data: Path) -> None:
    task = load("mmlu:anatomy", data)
    assert task.questions[0].text == "broken\nover lines?"
    assert task.questions[0].options == ("one", "two", "three", "four")
    assert [q.answer for q in task.questions] == [1, 1, 2]
    assert [e.question.text for e in task.examples] == [f"dev {n}?" for n in range(5)]
    assert (task.shots, task.mode, task.modes) == (5, Mode.LETTER, frozenset(Mode))
    assert task.domain == "general"


@pytest.mark.parametrize(
    ("name", "data_hash", "prompts"),
    [
        ("mmlu:anatomy", "df4e58fce8320b0c", "710633bbe9a03220"),
        # Replies are read anew since `READER` 4.
        ("gsm8k", "416518fd21f91df9", "5ce45dd0e1efbf85"),
        ("arc:easy", "3e0a84a7d66de11a", "7e23ecdf09c2dbab"),
    ],
)
def test_stored_runs_of_a_task_are_still_its_own(
    data: Path, name: str, data_hash: str, prompts: str
) -> None:
    """A run is found by these digests: one that changes leaves all stored runs behind."""
    task = load(name, data)
    form = PromptFormat(task.mode, task.shots, chat=False)
    assert (task.digest[:16], form.digest(task)[:16]) == (data_hash, prompts)


def test_stored_runs_are_left_behind_where_replies_to_yes_or_no_are_read_otherwise() -> None:
    question = Question("q", "d", "t", "Is it?", (), "yes")
    task = Task("t", "d", (question,), (), "", Mode.GENERATE, frozenset({Mode.GENERATE}), 0, "x")
    other = replace(task, questions=(replace(question, answer="Paris"),))
    theirs = replace(task, scorer=replace(task.scorer, name="their own"))
    form = PromptFormat(Mode.GENERATE, 0, chat=False)
    assert form.digest(task) != form.digest(other)
    assert form.digest(theirs) == form.digest(replace(other, scorer=theirs.scorer))


def test_copies_of_a_question_have_their_own_ids(data: Path) -> None:
    _, first, second = load("mmlu:anatomy", data).questions
    assert first.text == second.text
    assert first.id != second.id


@pytest.mark.parametrize(
    ("split", "text", "shots"), [("validation", "val?", 5), ("train", "dev 0?", 0)]
)
def test_mmlu_splits(data: Path, split: Split, text: str, shots: int) -> None:
    task = load("mmlu:anatomy", data, split)
    assert (task.questions[0].text, task.questions[0].split) == (text, split)
    # The examples are never among the questions.
    assert task.shots == shots == len(task.examples)


def test_questions_on_one_long_passage_are_a_cluster(data: Path) -> None:
    rows = [row(f"{LONG}\n\nWho?"), row(f"{LONG}\nWhere?"), row(f"{LONG} Other.\nWho?")]
    write_mmlu(data, "test", [*rows, row("Short.\nWho?"), row("Short.\nWhere?")])
    first, second, *others = (q.cluster for q in load("mmlu:anatomy", data).questions)
    assert first
    assert first == second
    assert others == ["", "", ""]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([row("a?"), ["b?", "A"]], ":2: row has 2 cells instead of 6"),
        ([row("a?\nb?"), row("c?", "E")], ":3: answer `E` is not A, B, C or D"),
        ([row("a?", "AB")], ":1: answer `AB` is not A, B, C or D"),
        ([row("a?", "")], ":1: answer `` is not A, B, C or D"),
        ([], ": is empty"),
    ],
)
def test_a_broken_mirror_is_named(data: Path, rows: list[list[str]], message: str) -> None:
    path = write_mmlu(data, "test", rows)
    with pytest.raises(Malformed) as caught:
        load("mmlu:anatomy", data)
    assert caught.value.what.startswith(f"{path}{message}")


def test_gsm8k(data: Path) -> None:
    task = load("gsm8k", data)
    assert task.questions[0].answer == "1212"
    assert [e.question.text for e in task.examples] == [f"train {n}?" for n in range(8)]
    assert task.examples[0].reply == "3 * 4 = <<3*4=12>>12\n#### 1,212"
    assert (task.mode, task.modes, task.shots) == (Mode.GENERATE, frozenset({Mode.GENERATE}), 5)
    assert (task.stop, task.max_tokens) == (("Question:", "</s>", "<|im_end|>"), 256)
    assert load("gsm8k", data, "train").examples == ()
    with pytest.raises(Misuse, match="no validation split"):
        load("gsm8k", data, "validation")


@pytest.mark.parametrize(
    ("solution", "number"),
    [
        ("so\n#### 18", "18"),
        ("#### 1,234,567", "1234567"),
        ("#### -3", "-3"),
        ("#### $5.", "5"),
        ("it is 18", ""),
        ("#### ", ""),
        ("#### 1\n#### 2", "2"),
        ("#### 0.50", "0.50"),
    ],
)
def test_the_final_number(solution: str, number: str) -> None:
    assert final_number(solution) == number


def test_gsm8k_rows_are_checked(data: Path) -> None:
    good: dict[str, object] = {"question": "a?", "answer": "#### 1"}
    path = write_jsonl(data / "gsm8k" / "test.jsonl", [good, {"question": "b?", "answer": "two"}])
    with pytest.raises(Malformed, match=":2: answer does not end in `#### number`"):
        load("gsm8k", data)
    write_jsonl(path, [{"answer": "#### 1"}])
    with pytest.raises(Malformed, match=":1: no text under `question`"):
        load("gsm8k", data)


def test_arc(data: Path) -> None:
    task = load("arc:easy", data)
    assert (task.questions[0].options, task.questions[0].answer) == (("a", "b", "c"), 2)
    assert len(task.examples) == 25
    assert (task.mode, task.modes, task.shots) == (Mode.CLOZE, frozenset(Mode), 0)


def test_arc_needs_no_training_file(data: Path) -> None:
    assert load("arc:challenge", data).examples == ()


@pytest.mark.parametrize(
    "bad",
    [{"answer": 3}, {"answer": "C"}, {"choices": "abc"}, {"choices": ["a", 1, "c"]}],
)
def test_arc_rows_are_checked(data: Path, bad: dict[str, object]) -> None:
    good = {"question": "Why?", "choices": ["a", "b", "c"], "answer": 2}
    write_jsonl(data / "arc" / "ARC-Easy" / "test.jsonl", [good, {**good, **bad}])
    with pytest.raises(Malformed, match=r"test\.jsonl:2: row is no question"):
        load("arc:easy", data)


def test_a_task_belongs_to_the_domain_that_lists_it(data: Path) -> None:
    medicine = Domain("medicine", "Medicine", "", (), ("mmlu:anatomy",), (), False, data)
    task = load_task("mmlu:anatomy", data=data, domains={"medicine": medicine})
    assert {task.domain, *(q.domain for q in task.questions)} == {"medicine"}


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("mmlu:anatmy", "mmlu:anatomy"),
        ("gsm8", "gsm8k"),
        ("gsm8k:main", "gsm8k"),
        ("arc:eazy", "arc:easy"),
        ("arc", None),
        ("own:zoology", None),
        ("mmlu:../../etc", None),
        ("", None),
        (":", None),
    ],
)
def test_an_unknown_task_gets_the_nearest(data: Path, name: str, near: str | None) -> None:
    with pytest.raises(NoSuch, match=f"no task `{name}`") as caught:
        load(name, data)
    assert near is None or f"did you mean `{near}`?" in str(caught.value.hint)


def test_a_data_folder_that_is_none_is_said(tmp_path: Path) -> None:
    with pytest.raises(Misuse, match="no data folder"):
        load("gsm8k", tmp_path / "none")


@pytest.mark.parametrize("part", ["../x", "/x", "a/../../x", "C:\\x", "..\\x", "\\\\host\\x"])
def test_a_mirror_is_not_left(tmp_path: Path, part: str) -> None:
    with pytest.raises(Misuse, match="leads out of"):
        mirror_file(tmp_path, "mmlu", part)


def test_no_mirror_and_no_file_are_the_same(tmp_path: Path) -> None:
    assert mirror_file(None, "mmlu") is None
    assert mirror_file(tmp_path, "mmlu") is None


def test_what_the_hub_cannot_give_is_one_error(tmp_path: Path) -> None:
    with pytest.raises(BenchError, match="cannot be had from the hub") as caught:
        hub_split(str(tmp_path / "none"), None, "test", layout="mmlu/test/anatomy_test.csv")
    assert "\n" not in caught.value.what
    assert "BENCH_DATA with `mmlu/test/anatomy_test.csv`" in str(caught.value.hint)


OFFLINE = """
import sys
from benchmarks.tasks.registry import load_task
from domainlift.errors import BenchError
assert "datasets" not in sys.modules
try:
    load_task("mmlu:anatomy", data=None, domains={})
except BenchError as error:
    print(error.what, error.hint, sep="\\n")
print("torch" in sys.modules)
"""


def test_offline_without_a_mirror(tmp_path: Path) -> None:
    env = {**os.environ, "HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path)}
    root = Path(__file__).parents[2]
    run = subprocess.run(
        [sys.executable, "-c", OFFLINE], cwd=root, env=env, capture_output=True, text=True
    )
    what, hint, torch = run.stdout.splitlines()
    assert what.startswith("no data: `cais/mmlu` `anatomy` (test) cannot be had from the hub")
    assert what.endswith("and is in no mirror")
    assert "mmlu/test/anatomy_test.csv" in hint
    assert torch == "False"


def test_there_are_57_subjects() -> None:
    assert len(set(SUBJECTS)) == 57
    assert MMLU.header("us_foreign_policy") == (
        "The following are multiple choice questions (with answers) about us foreign policy.\n\n"
    )


@real
def test_real_mmlu() -> None:
    tasks = [load(f"mmlu:{subject}", Path(DATA or "")) for subject in SUBJECTS]
    assert sum(len(task.questions) for task in tasks) == 14_042
    assert sum(len(task.examples) for task in tasks) == 285
    assert len({q.id for task in tasks for q in task.questions}) == 14_042
    assert all(task.shots == 5 == len(task.examples) for task in tasks)
    history = load("mmlu:high_school_european_history", Path(DATA or ""))
    assert sum(1 for q in history.questions if q.cluster) > 150


@real
def test_real_mmlu_validation() -> None:
    splits = [load(f"mmlu:{subject}", Path(DATA or ""), "validation") for subject in SUBJECTS]
    assert sum(len(task.questions) for task in splits) == 1_531


@real
@pytest.mark.parametrize(
    ("name", "test", "train"),
    [("gsm8k", 1_319, 7_473), ("arc:easy", 2_376, 2_251), ("arc:challenge", 1_172, 1_119)],
)
def test_real_counts(name: str, test: int, train: int) -> None:
    task = load(name, Path(DATA or ""))
    assert len(task.questions) == len({q.id for q in task.questions}) == test
    assert len(load(name, Path(DATA or ""), "train").questions) == train
