"""`bench exam`, and `bench improve --docs`."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import knowledge_bases
from improve.exam.exam import ExamFiles, read_exam, with_feedback, write_exam

TEXT = "".join(
    f"The {thing} was built by {name}.\n\n"
    for thing, name in {
        "pump": "Anselm Dorrit",
        "lathe": "Piet Valcourt",
        "boat": "Signe Abarca",
        "tower": "Rufus Adeyemi",
        "bridge": "Lotte Marchetti",
        "mill": "Oskar Pellew",
    }.items()
)


@pytest.fixture
def works(bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """A workspace with an exam of six facts."""
    monkeypatch.chdir(tmp_path)
    Path("notes").mkdir()
    for place, part in enumerate(TEXT.split("\n\n")[:-1]):
        Path(f"notes/{place}.md").write_text(f"# Part {place}\n\n{part}\n", encoding="utf-8")
    assert bench("kb", "build", "works", "--source", "notes", "--licence", "own").code == 0
    made = bench("exam", "make", "works")
    assert made.code == 0, made.err
    assert "6 facts (6 name)" in made.out
    return bench


def test_questions_are_shown_dropped_and_edited(works: Any) -> None:
    rows = works("exam", "show", "works", "--json").json
    keys = {"id", "question", "options", "answer", "passage", "source", "kind", "split"}
    assert all(keys <= row.keys() for row in rows)
    assert len(rows) == 6
    first = rows[0]
    assert first["options"][first["answer"]] in first["passage"]
    assert works("exam", "drop", "works", first["id"]).code == 0
    left = works("exam", "show", "works", "--json").json
    assert first["id"] not in {row["id"] for row in left}
    other = left[0]
    wrong = next(each for each in other["options"] if each not in other["passage"])
    said = works("exam", "edit", "works", other["id"], "--answer", wrong, "--question", "Who?")
    assert said.code == 0
    assert "edited" in said.out
    changed = works("exam", "show", "works", "--json").json[0]
    assert (changed["question"], changed["options"][changed["answer"]]) == ("Who?", wrong)


def test_an_exam_goes_through_a_spreadsheet(works: Any) -> None:
    assert works("exam", "export", "works", "works.csv").code == 0
    path = Path("works.csv")
    path.write_text(path.read_text("utf-8").replace("built by", "made by"), "utf-8")
    assert works("exam", "import", "works", "works.csv").code == 0
    assert all(
        "made by" in row["question"] for row in works("exam", "show", "works", "--json").json
    )
    files = ExamFiles(Path("workspace"), "works")
    before = read_exam(files)
    asked = replace(before.questions[0], id="mine", kind="feedback")
    write_exam(files, with_feedback(before, [asked]))
    kept = works("exam", "make", "works")
    assert "the edited questions are kept in" in kept.out
    after = read_exam(files)
    assert after.questions[-1] == asked
    assert not after.edited
    assert not any("made by" in each.question for each in after.questions[:-1])


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("exam", "show", "wroks"), "no exam `wroks`; did you mean `works`?"),
        (("exam", "drop", "works", "12"), "no question `12`"),
        (("exam", "edit", "works", "12"), "nothing to change"),
        (("exam", "export", "works", "works.xls"), "ends neither in .jsonl nor in .csv"),
        (("exam", "import", "works", "gone.csv"), "no file `gone.csv`"),
        (("improve", "--model", "tiny", "--docs", "gone"), "no folder `gone`"),
        (("improve", "--model", "tiny", "--name", "x"), "are for documents"),
        (("improve", "--model", "tiny", "--docs", "notes", "--name", "history"), "is a declared"),
    ],
)
def test_errors_say_what_mends_them(works: Any, words: tuple[str, ...], what: str) -> None:
    said = works(*words)
    assert said.code == 2
    assert what.split("; ")[0] in said.err
    assert "Traceback" not in said.err


def test_where_no_exam_is_the_command_that_makes_one_is_told(bench: Any, works: Any) -> None:
    shutil.rmtree("workspace/exams")
    said = bench("exam", "show", "works")
    assert said.err == (
        "error: no exam `works`\n\nhint: there is none yet: `bench exam make works` makes one\n"
    )
    assert bench("exam", "make", "works").code == 0
    assert bench("exam", "show", "works").code == 0


def test_documents_without_a_fact_are_refused(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty").mkdir()
    Path("empty/a.md").write_text("# Notes\n\nCall you when it is done.\n", encoding="utf-8")
    said = bench("improve", "--model", "tiny", "--docs", "empty")
    assert said.code == 1
    assert "no question can be made of the documents of `empty`" in said.err


def test_facts_without_wrong_answers_are_counted(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("shed").mkdir()
    text = "# Shed\n\nThe shed opens at 7:30 on working days. A key costs 85 pounds a year.\n"
    Path("shed/a.md").write_text(text, encoding="utf-8")
    said = bench("improve", "--model", "tiny", "--docs", "shed")
    assert said.code == 1
    assert "hint: facts found: 2, but not what could be wrong answers" in said.err


def test_no_exam_is_said(bench: Any, tmp_path: Path) -> None:
    said = bench("exam", "list", "--workspace", str(tmp_path))
    assert (said.code, said.out) == (0, "")
    assert said.err.startswith("note: no exam yet")


@pytest.mark.slow
def test_a_folder_of_documents_is_enough(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("sums.yaml").write_text("tasks: [own:mathematics]\n", encoding="utf-8")
    documents = str(Path(knowledge_bases.__path__[0]) / "history" / "documents")
    words = ("improve", "--model", "tiny", "--docs", documents, "--name", "lore")
    found = bench(*words, "--suite", "sums.yaml", "--set", "steps=20", "--json")
    assert found.code == 0, found.err
    told = found.json
    assert told["domain"] == "lore"
    assert told["exam"]["questions"] > 30
    assert {"facts", "questions", "known", "by_kind"} <= told["exam"].keys()
    for part in ("held_out_facts", "held_out_wordings"):
        assert told[part].keys() == {"base", "rag", "lora", "rag_lora", "ensemble"}
        assert told[part]["rag"]["n"] == told[part]["base"]["n"] > 0
    assert json.dumps(told)
