from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def run(server: Any, bench: Any, exam: Any) -> str:
    """The name of a finished run of six questions."""
    argv = ("run", "--model", server.model, "--task", exam(6), "--scoring", "letter", "--json")
    name = bench(*argv).json["run"]
    assert isinstance(name, str)
    return name


def test_no_runs_are_an_empty_list(bench: Any) -> None:
    assert bench("runs", "list", "--json").json == []
    assert bench("runs", "list").code == 0
    assert not Path("workspace").exists()


def test_runs_are_listed(run: str, bench: Any) -> None:
    (entry,) = bench("runs", "list", "--json").json
    assert (entry["run"], entry["questions"], entry["finished"]) == (run, 6, True)
    shown = bench("runs", "list").out
    assert all(word in shown for word in (run, "stub", "finished", "tasks"))


def test_a_run_is_shown_as_it_was_when_it_ended(run: str, bench: Any) -> None:
    shown = bench("runs", "show", run)
    assert all(word in shown.out for word in ("history", "law", "fingerprint", "finished"))
    data = bench("runs", "show", run, "--json").json
    assert data["run"] == data["manifest"]["run"] == run
    assert data["overall"]["n"] == 6


def test_the_target_decides_the_verdicts(run: str, bench: Any) -> None:
    for target, verdict in (("0", "strong"), ("1", "weak")):
        data = bench("runs", "show", run, "--json", "--target", target).json
        assert data["overall"]["verdict"] in {verdict, "uncertain"}
        assert data["target"] == float(target)


def test_a_run_s_folder_is_printed_alone(run: str, bench: Any, tmp_path: Path) -> None:
    folder = Path(bench("runs", "show", run, "--path").out.rstrip("\n"))
    assert folder.samefile(tmp_path / "workspace" / "runs" / run)


def test_runs_are_removed(run: str, bench: Any) -> None:
    assert bench("runs", "rm", run).out == f"removed `{run}`\n"
    assert bench("runs", "list", "--json").json == []
    assert bench("runs", "rm", run).code == 2


@pytest.mark.parametrize("command", ["show", "rm"])
def test_an_unknown_run_leads_to_the_nearest(command: str, run: str, bench: Any) -> None:
    said = bench("runs", command, run[:-1])
    assert said.code == 2
    assert said.err == (
        f"error: no run `{run[:-1]}`\n\nhint: did you mean `{run}`? `bench runs list` shows all 1\n"
    )


def test_nothing_outside_of_the_workspace_is_removed(run: str, bench: Any, tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text("{}", encoding="utf-8")
    for name in ("../..", "..", ".", str(tmp_path)):
        assert bench("runs", "rm", name).code == 2
    assert (tmp_path / "manifest.json").exists()


def test_a_broken_run_says_how_to_be_rid_of_it(run: str, bench: Any, tmp_path: Path) -> None:
    (tmp_path / "workspace" / "runs" / run / "manifest.json").write_text("{", encoding="utf-8")
    for argv, code in ((["list"], 0), (["show", run], 2)):
        said = bench("runs", *argv)
        assert said.code == code
        assert f"remove the run: `bench runs rm {run}`" in said.err
    assert bench("runs", "rm", run).code == 0


def test_the_workspace_comes_from_the_environment_too(
    run: str, bench: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("BENCH_WORKSPACE", str(tmp_path / "other"))
    assert bench("runs", "list", "--json").json == []
    (entry,) = bench("runs", "list", "--json", "--workspace", tmp_path / "workspace").json
    assert entry["run"] == run


def test_an_unfinished_run_is_called_so(run: str, bench: Any, tmp_path: Path) -> None:
    path = tmp_path / "workspace" / "runs" / run / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(manifest | {"finished": False}), encoding="utf-8")
    assert "unfinished" in bench("runs", "list").out
