from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.runs.suites import Suite, load_suite
from domainlift.errors import Malformed, NoSuch
from engines.base import Mode
from knowledge_bases.domains import BUILT_IN, Domain, load_domains

ROW = {"question": "Which is a mammal?", "options": ["cat", "carp"], "answer": 0}


@pytest.fixture
def domains(tmp_path: Path) -> dict[str, Domain]:
    """The built-in biology and a domain of the user's, each with questions of its own."""
    folder = tmp_path / "zoology"
    folder.mkdir()
    (folder / "questions.jsonl").write_text(json.dumps(ROW), encoding="utf-8")
    folders = {"biology": BUILT_IN / "biology", "zoology": folder}
    return {
        name: Domain(name, name.title(), "", (), (), (), False, folder)
        for name, folder in folders.items()
    }


def suite(tmp_path: Path, text: str, domains: dict[str, Domain]) -> Suite:
    path = tmp_path / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return load_suite(str(path), domains)


def test_demo_is_what_comes_with_the_project(domains: dict[str, Domain]) -> None:
    assert load_suite("demo", domains) == Suite("demo", ("own:biology",))


def test_mmlu_and_full(domains: dict[str, Domain]) -> None:
    mmlu = load_suite("mmlu", domains).tasks
    assert len(mmlu) == 57
    others = ("gsm8k", "arc:easy", "arc:challenge", "own:biology", "own:zoology")
    assert load_suite("full", domains).tasks == (*mmlu, *others)


def test_the_real_demo_covers_five_domains() -> None:
    names = ("biology", "history", "mathematics", "philosophy", "security")
    assert load_suite("demo", load_domains()).tasks == tuple(f"own:{name}" for name in names)


def test_the_domains_of_the_handbook_are_in_no_other_suite() -> None:
    known = load_domains()
    tasks = load_suite("handbook", known).tasks
    assert tasks == ("own:everyday", "own:handbook", "own:language")
    for other in ("demo", "mmlu", "full"):
        assert not set(tasks) & set(load_suite(other, known).tasks)


def test_an_unknown_suite_gets_the_nearest(domains: dict[str, Domain]) -> None:
    with pytest.raises(NoSuch, match="no suite `dmo`") as caught:
        load_suite("dmo", domains)
    assert caught.value.hint == "did you mean `demo`?"


def test_a_suite_from_a_file(tmp_path: Path, domains: dict[str, Domain]) -> None:
    (tmp_path / "exams").mkdir()
    exam = tmp_path / "exams" / "exam.jsonl"
    exam.write_text(json.dumps(ROW), encoding="utf-8")
    text = "name: mine\ntasks: [mmlu:anatomy, exams/exam.jsonl, 'lm-eval:boolq']\nshots: 2\n"
    expected = ("mmlu:anatomy", str(exam), "lm-eval:boolq")
    made = suite(tmp_path, text + "mode: cloze\n", domains)
    assert made == Suite("mine", expected, 2, Mode.CLOZE)


def test_only_the_tasks_are_needed(tmp_path: Path, domains: dict[str, Domain]) -> None:
    assert suite(tmp_path, "tasks:\n- gsm8k\n", domains) == Suite("mine", ("gsm8k",))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("tasks: [gsm8k]\nshot: 3\n", ":2: unknown key `shot`"),
        (
            "tasks: [gsm8k]\n\nshots: many\n",
            ":3: `shots` must be a whole number, 0 or more, not",
        ),
        ("tasks: [gsm8k]\nshots: -1\n", ":2: `shots` must be a whole number, 0 or more, not `-1`"),
        (
            "tasks: [gsm8k]\nshots: true\n",
            ":2: `shots` must be a whole number",
        ),
        ("tasks: [gsm8k]\nmode: clozed\n", ":2: unknown mode `clozed`"),
        ("tasks: [gsm8k]\nmode: [cloze]\n", ":2: `mode` must be a text, not a list"),
        ("name: x\ntasks: gsm8k\n", ":2: `tasks` must be a list of texts, not a text"),
        ("name: x\ntasks: []\n", ":2: `tasks` is empty"),
        ("name: x\ntasks: [1]\n", ":2: `tasks` must be a list of texts, but item 1 is a number"),
        ("tasks:\n- gsm8k\n- mmlu:anatmy\n", ":3: no task `mmlu:anatmy`"),
        ("tasks:\n- gsm8k\n- none.jsonl\n", ":3: no file `"),
        ("tasks:\n- gsm8k\n- gsm8k\n", ":3: `tasks` holds `gsm8k` twice"),
        ("name: x\n", ":1: key `tasks` is missing"),
        ("name: [x]\ntasks: [gsm8k]\n", ":1: `name` must be a text, not a list"),
        ("- gsm8k\n", ":1: must hold keys with values, not a list"),
        ("tasks: [gsm8k\nname: x\n", ":2: not YAML"),
        ("tasks: [gsm8k]\n? [a, b]\n: 1\n", ":2: a key must be a text, not a list"),
        (
            "a: &a [x]\nb: &b [*a, *a]\nshots: &c [*b, *b]\ntasks: [gsm8k]\n",
            ":2: alias `*a`",
        ),
        ("tasks: [gsm8k]\nshots: &s [*s]\n", ":2: alias `*s` is not allowed"),
        ("tasks: [gsm8k]\nshots: " + "[" * 2000, ": nested too deeply"),
        ("tasks: [gsm8k]\nname: 2024-13-45\n", ":2: `name` must be a text, not a date"),
        ("tasks: [gsm8k]\nshots: 1\nshots: 2\n", ":3: key `shots` stands twice, first in line 2"),
        ("", ":1: file is empty"),
    ],
)
def test_a_bad_file_is_named_with_its_line(
    tmp_path: Path, domains: dict[str, Domain], text: str, message: str
) -> None:
    with pytest.raises(Malformed) as caught:
        suite(tmp_path, text, domains)
    assert message in caught.value.what
    assert "\n" not in caught.value.what
