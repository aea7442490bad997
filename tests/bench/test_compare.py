from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.helpers import made_runs as made


@pytest.fixture
def runs(tmp_path: Path) -> tuple[str, str]:
    """Two runs: law gets worse, history better."""
    outcomes = {
        "law": made.outcomes(both=20, broken=20),
        "history": made.outcomes(both=20, fixed=20),
    }
    made.two(tmp_path / "workspace", outcomes)
    return "before", "after"


def page_of(said: Any) -> Path:
    (line,) = [line for line in said.err.splitlines() if line.startswith("report: ")]
    return Path(line.removeprefix("report: "))


def test_the_terminal_and_a_page(runs: tuple[str, str], bench: Any) -> None:
    said = bench("compare", *runs)
    assert said.code == 0
    for word in (
        "No evidence of a difference",
        "▼ worse",
        "▲ better",
        "overall",
        "broken (5 of 20)",
    ):
        assert word in said.out
    assert page_of(said) == Path("workspace/reports/before-vs-after.html")
    assert page_of(said).read_text(encoding="utf-8").startswith("<!DOCTYPE html>")


def test_json_is_one_object_and_no_page(runs: tuple[str, str], bench: Any) -> None:
    said = bench("compare", *runs, "--json")
    assert said.json["domains"]["law"]["word"] == "worse"
    assert said.json["regressed"] == ["law"]
    assert said.err == ""
    assert not Path("workspace/reports").exists()


def test_markdown(runs: tuple[str, str], bench: Any) -> None:
    said = bench("compare", *runs, "--markdown", "--show", "fixed")
    assert said.out.startswith("### No evidence")
    assert "| law | 40 | 100.0 | 50.0 | **−50.0** |" in said.out
    assert "<details><summary>fixed: 10 of 20</summary>" in said.out


def test_a_page_goes_where_it_is_told(runs: tuple[str, str], bench: Any, tmp_path: Path) -> None:
    path = tmp_path / "a" / "b.html"
    said = bench("compare", *runs, "--json", "--html", path)
    assert said.json["schema"] == 1
    assert path.exists()


def test_flips_are_written_whole(runs: tuple[str, str], bench: Any, tmp_path: Path) -> None:
    path = tmp_path / "new" / "flips.jsonl"
    for _ in range(2):  # the second replaces the first
        assert "(40 questions)" in bench("compare", *runs, "--flips", path).err
    rows = [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]
    assert [row["kind"] for row in rows] == ["broken"] * 20 + ["fixed"] * 20
    assert rows[0]["candidate"] == "after"


@pytest.mark.parametrize(
    ("more", "code"),
    [
        ((), 0),
        (("--fail-on-regression",), 1),
        (("--fail-on-regression", "--json"), 1),
        (("--fail-on-regression", "--domains", "history"), 0),
    ],
)
def test_a_regression_decides_the_exit_code(
    more: tuple[str, ...], code: int, runs: tuple[str, str], bench: Any
) -> None:
    said = bench("compare", *runs, *more)
    assert said.code == code
    assert ("regression: significantly worse in law" in said.err) == bool(code)


def test_a_run_without_answers_passes_no_check(bench: Any, tmp_path: Path) -> None:
    made.two(tmp_path / "workspace", {"law": [(True, None)] * 9, "art": made.outcomes(both=9)})
    said = bench("compare", "before", "after", "--fail-on-regression")
    assert said.code == 1
    assert "regression: no answers in law" in said.err


def test_a_loss_spread_over_domains_is_a_regression(bench: Any, tmp_path: Path) -> None:
    outcomes = {f"d{n}": made.outcomes(both=20, broken=3) for n in range(8)}
    made.two(tmp_path / "workspace", outcomes)
    said = bench("compare", "before", "after", "--fail-on-regression")
    assert said.code == 1
    assert "regression: significantly worse overall" in said.err


def test_only_some_domains(runs: tuple[str, str], bench: Any) -> None:
    data = bench("compare", *runs, "--json", "--domains", "law").json
    assert list(data["domains"]) == ["law"]
    assert "only some domains are compared" in data["warnings"][0]


@pytest.mark.parametrize("kind", ["fixed", "broken", "both", "neither"])
def test_questions_of_one_kind(kind: str, runs: tuple[str, str], bench: Any) -> None:
    shown = bench("compare", *runs, "--json", "--show", kind).json["flips"]
    assert {flip["kind"] for flip in shown} <= {kind}
    assert bool(shown) == (kind != "neither")


def test_runs_by_their_beginnings_and_the_latest(runs: tuple[str, str], bench: Any) -> None:
    data = bench("compare", "bef", "latest", "--json").json
    assert (data["baseline"], data["candidate"]) == runs


def test_several_candidates(runs: tuple[str, str], bench: Any, tmp_path: Path) -> None:
    asked = [made.question(n, "law" if n < 40 else "history") for n in range(80)]
    made.store(tmp_path / "workspace", "third", [(q, made.record(q, True)) for q in asked])
    data = bench("compare", *runs, "third", "--json").json
    assert [each["candidate"] for each in data["comparisons"]] == ["after", "third"]
    assert {each["baseline"] for each in data["comparisons"]} == {data["baseline"]}
    said = bench("compare", *runs, "third", "--html", tmp_path / "page.html")
    assert said.code == 0
    assert (tmp_path / "page-after.html").exists()
    assert (tmp_path / "page-third.html").exists()
    assert bench("compare", *runs, "third", "--markdown").out.count("### ") == 2
    flips = tmp_path / "flips.jsonl"
    assert "(60 questions)" in bench("compare", *runs, "third", "--flips", flips).err
    rows = [json.loads(line) for line in flips.read_text(encoding="utf-8").splitlines()]
    assert [row["candidate"] for row in rows] == ["after"] * 40 + ["third"] * 20


@pytest.mark.parametrize(
    ("argv", "error", "hint"),
    [
        (("before",), "a comparison needs two runs", "bench runs list"),
        (("before", "before"), "run `before` is compared with itself", "name two runs"),
        (("before", "afer"), "no run `afer`", "did you mean `after`?"),
        (("before", "a"), "`a` is the beginning of 2 runs", "`after`, `another`"),
        (("before", "after", "--domains", "lw"), "no domain in both runs `lw`", "`law`"),
        (("before", "after", "--show", "broke"), "no kind of question `broke`", "`broken`"),
        (("before", "after", "--json", "--markdown"), "both want stdout", "choose one"),
        (("before", "another"), "have no question in common", "runs of one suite"),
    ],
)
def test_misuse(
    argv: tuple[str, ...],
    error: str,
    hint: str,
    runs: tuple[str, str],
    bench: Any,
    tmp_path: Path,
) -> None:
    asked = made.question(99, "sea")
    made.store(tmp_path / "workspace", "another", [(asked, made.record(asked, True))])
    said = bench("compare", *argv)
    assert (said.code, said.out) == (2, "")
    assert error in said.err.split("hint:")[0]
    assert hint in said.err.split("hint:")[1]


def test_no_runs_at_all(bench: Any) -> None:
    said = bench("compare", "latest", "latest")
    assert said.code == 2
    assert "there is no run yet" in said.err
    assert not Path("workspace").exists()


def test_a_page_that_cannot_be_written(runs: tuple[str, str], bench: Any, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    said = bench("compare", *runs, "--html", tmp_path / "file" / "page.html")
    assert said.code == 1
    assert "cannot be written" in said.err
    assert "unexpected" not in said.err


def test_real_runs_are_compared(server: Any, bench: Any, exam: Any) -> None:
    argv = ("run", "--model", server.model, "--task", exam(8), "--scoring", "letter", "--json")
    first = bench(*argv).json["run"]
    second = bench(*argv, "--shots", "0", "--fresh").json["run"]
    data = bench("compare", first, second, "--json").json
    assert (data["overall"]["n"], data["overall"]["delta"], data["warnings"]) == (8, 0.0, [])
    assert "noise of asking again" in data["notes"][0]
    assert data["runs"]["baseline"]["settings"]["command"].startswith("bench")
