from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import bench.commands.check as command
from benchmarks.results.comparison import compare_runs
from benchmarks.results.max_drop import DropWord, check_drops, read_points
from benchmarks.results.pairing import pair_runs
from benchmarks.runs.store import Run
from domainlift.errors import Misuse
from reports.check import check_json, render_check
from tests.helpers.made_runs import question, record, store

#: Rights of the baseline, then those that turned right and wrong, of so many questions.
Domain = tuple[int, int, int, int]


def two_runs(workspace: Path, **domains: Domain) -> tuple[Run, Run]:
    before, after, number = [], [], 0
    for name, (n, right, gained, lost) in domains.items():
        for place in range(n):
            asked, number = question(number, name.replace("_", " ")), number + 1
            was = place < right
            now = place >= lost if was else place < right + gained
            before.append((asked, record(asked, was)))
            after.append((asked, record(asked, now)))
    return store(workspace, "before", before), store(workspace, "after", after)


@pytest.mark.parametrize(
    ("domain", "word", "fails"),
    [
        ((200, 150, 0, 0), DropWord.HELD, False),
        ((200, 150, 30, 10), DropWord.HELD, False),
        ((60, 40, 0, 0), DropWord.INCONCLUSIVE, False),  # too few for two points
        ((200, 150, 0, 4), DropWord.INCONCLUSIVE, False),  # two points lost, and not more
        ((200, 150, 10, 24), DropWord.INCONCLUSIVE, False),  # seven points, by luck perhaps
        ((200, 150, 0, 24), DropWord.DROPPED, True),
        ((200, 150, 10, 60), DropWord.DROPPED, True),
    ],
)
def test_a_drop_is_shown_ruled_out_or_neither(
    tmp_path: Path, domain: Domain, word: DropWord, fails: bool
) -> None:
    joined = pair_runs(*two_runs(tmp_path, history=domain))
    check = check_drops(joined, 0.02)
    assert check.domains["history"].word is word
    assert check.passed is not fails
    assert check_drops(joined, 0.02, strict=True).passed is (word is DropWord.HELD)


def test_a_drop_among_many_domains_is_held_to_more(tmp_path: Path) -> None:
    alone = check_drops(pair_runs(*two_runs(tmp_path / "a", law=(100, 90, 0, 7))), 0.02)
    others = {f"d{n}": (60, 40, 0, 0) for n in range(9)}
    many = check_drops(pair_runs(*two_runs(tmp_path / "b", law=(100, 90, 0, 7), **others)), 0.02)
    one, of_many = alone.domains["law"], many.domains["law"]
    assert math.isclose(of_many.p_dropped, min(1.0, 10 * one.p_dropped))
    assert (one.word, of_many.word) == (DropWord.DROPPED, DropWord.INCONCLUSIVE)
    assert one.p_held == of_many.p_held


def test_what_stands_in_a_knowledge_base_hides_no_drop(tmp_path: Path) -> None:
    asked = [question(n, "law") for n in range(300)]
    before = [(q, record(q, n < 150)) for n, q in enumerate(asked)]
    leaked = [(q, record(q, True, leak="chunk")) for q in asked[150:]]
    after = [*((q, record(q, n >= 30)) for n, q in enumerate(asked[:150])), *leaked]
    runs = store(tmp_path, "before", before), store(tmp_path, "after", after)
    check = check_drops(pair_runs(*runs), 0.02)
    assert (check.domains["law"].change.n, check.passed) == (150, False)


def test_a_domain_without_answers_has_not_passed(tmp_path: Path) -> None:
    asked = [question(n, "law") for n in range(30)]
    runs = (
        store(tmp_path, "before", [(q, record(q, True)) for q in asked]),
        store(tmp_path, "after", [(q, record(q, None)) for q in asked]),
    )
    check = check_drops(pair_runs(*runs), 0.02)
    assert (check.named(DropWord.NO_ANSWERS), check.passed) == (["law"], False)


@given(st.floats(0.01, 99.9).map(lambda x: round(x, 2)), st.sampled_from(["", "pt", " pt", "pts"]))
def test_points_are_read(number: float, unit: str) -> None:
    assert math.isclose(read_points(f"{number}{unit}"), number / 100)


@pytest.mark.parametrize("text", ["", "0", "0pt", "100pt", "2%", "-1", "0x2", "two", "1e3", "nan"])
def test_what_is_no_number_of_points_is_refused(text: str) -> None:
    with pytest.raises(Misuse, match="no number of points"):
        read_points(text)


def test_markdown_and_json_say_what_was_found(tmp_path: Path) -> None:
    runs = two_runs(tmp_path, law=(200, 150, 0, 40), my_arts=(200, 150, 0, 0), few=(20, 9, 0, 0))
    joined = pair_runs(*runs)
    check, comparison = check_drops(joined, 0.02), compare_runs(*runs, joined)
    lines = render_check(check, comparison).splitlines()
    assert lines[0] == (
        "## ✗ Check failed: dropped by more than 2.0 points: law; inconclusive: few; held: my arts"
    )
    assert any(line.startswith("| law | 200 | −20.0 |") for line in lines)
    assert any(line.startswith("### ") for line in lines)
    told = check_json(check, comparison)
    assert (told["passed"], told["max_drop"], told["baseline"]) == (False, 0.02, "before")
    assert told["drops"]["law"]["word"] == "dropped"
    assert told["domains"]["law"]["lost"] == 40


@pytest.fixture
def check(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Callable[..., tuple[int, str, str]]:
    """`bench check` over a plan whose runs are made already."""
    runs = two_runs(tmp_path, law=(200, 150, 0, 40), arts=(200, 150, 0, 0))
    scores = {
        n: SimpleNamespace(run=r.folder.name)
        for n, r in zip(("base", "ensemble"), runs, strict=True)
    }
    info = SimpleNamespace(model="made")
    engine = SimpleNamespace(info=info, close=lambda: None)
    plan = SimpleNamespace(model="made")
    for name, value in {
        "read_plan": lambda path: plan,
        "choose_tasks": lambda names, settings, *_: ([], settings),
        "open_engine": lambda name, options: engine,
        "run_plan": lambda *_, **__: SimpleNamespace(treatments=scores),
    }.items():
        monkeypatch.setattr(command, name, value)
    path = tmp_path / "plan.yaml"
    path.touch()

    def run(*argv: str) -> tuple[int, str, str]:
        from bench.app import main

        words = ("--plan", str(path), "--workspace", str(tmp_path), *argv)
        return main(["check", *words]), *capsys.readouterr()

    return run


def test_the_command_fails_where_a_drop_is_shown(check: Callable[..., Any]) -> None:
    code, out, _ = check("--json")
    assert (code, json.loads(out)["passed"]) == (1, False)
    assert check("--max-drop", "40pt")[0] == 0
    code, out, _ = check("--baseline", "before")
    assert (code, out.startswith("## ✗ Check failed")) == (1, True)
    assert check("--domains", "arts")[0] == 0


@pytest.mark.parametrize(
    ("argv", "what"),
    [
        (("--baseline", "befor"), "did you mean `before`?"),
        (("--baseline", "champion"), "no plan for `made`"),
        (("--max-drop", "2%"), "no number of points"),
    ],
)
def test_misuse_says_what_mends_it(check: Callable[..., Any], argv: Any, what: str) -> None:
    code, out, err = check(*argv)
    assert (code in (1, 2), out, what in err) == (True, "", True), err
