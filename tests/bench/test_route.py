from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from ensemble.router.keywords import read_keywords
from improve.route import open_router
from knowledge_bases.domains import load_domains

pytest.importorskip("sklearn")
OUR_FIVE = "biology,history,mathematics,philosophy,security"
CELL = "Which phase of mitosis separates the chromosomes of a cell?"
HANDBOOK = "everyday,handbook,language"
GARDENING = """\
title: Gardening
description: Plants in beds
keywords: [compost, pruning, rose bush, seedling]
tasks: []
"""


def test_the_shipped_keywords_explain_themselves(bench: Any) -> None:
    said = bench("route", "explain", CELL, "--json")
    assert said.code == 0, said.err
    assert said.json["domain"] == "biology"
    assert said.json["rung"] in ("keywords", "classifier")
    assert said.json["matched"]
    assert {"margin", "runner_up", "probability", "reason"} <= said.json.keys()
    shown = bench("route", "explain", CELL)
    assert "biology" in shown.out.splitlines()[0]


def test_options_and_a_named_domain_are_heard(bench: Any) -> None:
    bare = bench("route", "explain", "Which one is it?", "--json").json
    options = ("--option", "Roman Empire", "--option", "Ottoman Empire")
    asked = bench("route", "explain", "Which one is it?", *options, "--json").json
    assert bare["domain"] != "history"
    assert asked["domain"] == "history"
    named = bench("route", "explain", "Which one is it?", "--domain", "law", "--json").json
    assert (named["domain"], named["rung"]) == ("law", "domain")


@pytest.mark.slow
def test_the_demo_is_routed_well_before_and_after_a_fit(bench: Any, tmp_path: Path) -> None:
    asked = ("route", "test", "--suite", "demo", "--domains", OUR_FIVE, "--json")
    before = bench(*asked).json
    assert before["accuracy"] >= 0.95, before["confusion"]
    path = tmp_path / "workspace" / "routes.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("somebody's own", encoding="utf-8")
    fitted = bench("route", "fit", "--suite", "demo", "--json")
    assert fitted.code == 0, fitted.err
    assert Path(fitted.json["kept"]).read_text(encoding="utf-8") == "somebody's own"
    after = bench(*asked)
    assert after.code == 0, after.err
    assert after.json["accuracy"] >= 0.98
    assert after.json["n"] == before["n"] > 400
    for name in OUR_FIVE.split(","):
        domain = after.json["domains"][name]
        assert domain["recall"] >= 0.95, name
        assert domain["precision"] >= 0.95, name
    assert after.json["coverage_at_95"] >= 0.95
    shown = bench("route", "test", "--suite", "demo", "--domains", OUR_FIVE)
    assert "precision" in shown.out


def test_the_domains_of_a_suite_are_routed_to_for_that_suite_only(
    bench: Any, tmp_path: Path
) -> None:
    workspace = tmp_path / "workspace"
    assert "handbook" not in open_router(workspace).keywords.domains
    assert "handbook" in open_router(workspace, ["handbook", "law"]).keywords.domains
    fitted = bench("route", "fit", "--suite", "handbook", "--json")
    assert fitted.code == 0, fitted.err
    assert set(read_keywords(workspace / "routes.yaml").domains) == set(HANDBOOK.split(","))
    asked = bench("route", "test", "--suite", "handbook", "--domains", HANDBOOK, "--json").json
    assert asked["accuracy"] >= 0.9, asked["confusion"]


def test_a_file_of_questions_is_tested(bench: Any, tmp_path: Path) -> None:
    path = tmp_path / "asked.jsonl"
    rows = [
        {"question": "Which emperor of the Roman Empire fell in battle?", "domain": "history"},
        {"question": "Which treaty ended the war?", "domain": "law", "also": ["history"]},
        {"question": "Where is my umbrella?", "domain": "base", "options": ["here", "here"]},
        {"question": "Nobody knows where this belongs.", "domain": "mixed"},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    told = bench("route", "test", path, "--domains", "history,biology", "--json").json
    assert told["n"] == 3
    assert told["accuracy"] == 1.0
    history = told["domains"]["history"]
    assert (history["n"], history["recall"], history["false_sends"]) == (2, 1.0, 0.0)
    assert history["recall_interval"][0] < 1.0
    assert 0 <= told["calibration_error"] <= 1
    shown = bench("route", "test", path, "--domains", "history,biology")
    assert "false sends" in shown.out
    assert "calibration error" in shown.out


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"question": "Q?"}, "no `domain`"),
        ({"question": "Q?", "domain": "histroy"}, "no domain `histroy`"),
        ({"question": "Q?", "domain": "law", "also": "history"}, "`also` must be a list"),
        ({"question": "Q?", "domain": "law", "optoins": []}, "unknown key `optoins`"),
        ({"domain": "law"}, "`question` is empty"),
        ({"question": "Q?", "domain": "mixed"}, "holds no question with a domain"),
    ],
)
def test_a_faulty_file_of_questions_is_told(
    bench: Any, tmp_path: Path, row: dict[str, Any], what: str
) -> None:
    path = tmp_path / "asked.jsonl"
    path.write_text(json.dumps(row), encoding="utf-8")
    said = bench("route", "test", path)
    assert said.code == 2
    assert what in said.err


def test_the_evidence_for_the_runner_up_is_shown(bench: Any) -> None:
    text = "Which emperor of the Roman Empire conquered Gaul and wrote on photosynthesis?"
    told = bench("route", "explain", text, "--json").json
    assert told["domain"] == "history"
    assert "emperor" in dict(told["matched"])
    assert "photosynthesis" in dict(told["runner_up_matched"])
    assert "for the runner-up" in bench("route", "explain", text).out


def test_documents_are_enough_for_a_domain_of_ones_own(
    bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The built-in handbook's documents, as a folder of one's own without any question."""
    monkeypatch.delenv("BENCH_DATA", raising=False)
    folder = tmp_path / "workspace" / "domains" / "works"
    shutil.copytree(load_domains()["handbook"].documents or Path(), folder / "documents")
    domain = "title: Works\ndescription: A company\nkeywords: [works]\ntasks: []\n"
    (folder / "domain.yaml").write_text(domain, encoding="utf-8")
    fitted = bench("route", "fit", "--suite", "demo", "--json")
    assert fitted.code == 0, fitted.err
    asked = tmp_path / "asked.jsonl"
    questions = load_domains()["handbook"].questions_file or Path()
    rows = [json.loads(line) for line in questions.read_text(encoding="utf-8").splitlines()]
    kept = [{"question": r["question"], "domain": "works"} for r in rows if r["split"] == "test"]
    asked.write_text("\n".join(map(json.dumps, kept)), encoding="utf-8")
    told = bench("route", "test", asked, "--domains", f"works,{OUR_FIVE}", "--json").json
    assert told["domains"]["works"]["recall"] >= 0.7, told["confusion"]


def test_a_domain_of_ones_own_is_routed_to_by_its_keywords(bench: Any, tmp_path: Path) -> None:
    folder = tmp_path / "workspace" / "domains" / "gardening"
    folder.mkdir(parents=True)
    (folder / "domain.yaml").write_text(GARDENING, encoding="utf-8")
    found = bench("route", "explain", "Compost for a seedling and a rose bush", "--json").json
    assert found["domain"] == "gardening"


@pytest.mark.parametrize(
    ("words", "what"),
    [
        (("explain", "x", "--domains", "biologie"), "no domain `biologie`"),
        (("explain", "x", "--domain", "biologie"), "no domain `biologie`"),
        (("explain", "x", "--domains", ","), "names no domain"),
        (("test", "--suite", "dema"), "no suite `dema`"),
        (("fit", "--keywords", "40001"), "less than or equal to 40000"),
        (("fit", "--suite", "dema"), "no suite `dema`"),
    ],
)
def test_misuse_is_told_in_a_line(bench: Any, words: tuple[str, ...], what: str) -> None:
    said = bench("route", *words)
    assert said.code == 2
    assert what in said.err
    assert "hint: " in said.err


def test_a_broken_keyword_file_is_told_with_its_line(bench: Any, tmp_path: Path) -> None:
    path = tmp_path / "workspace" / "routes.yaml"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("domains:\n- name: biology\n  patterns: {'(a+)+': 1}\n", encoding="utf-8")
    said = bench("route", "explain", "x")
    assert said.code == 2
    assert "routes.yaml:3: pattern `(a+)+`" in said.err


def test_json_is_one_object(bench: Any) -> None:
    said = bench("route", "explain", "", "--json")
    assert json.loads(said.out)["reason"] == "there is no text"
