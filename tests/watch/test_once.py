from __future__ import annotations

import json
import re
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from domainlift.errors import BenchError, Misuse
from domainlift.files import exclusive_lock
from improve.versions.decision_log import Decision, DecisionLog, ProbeLook
from improve.versions.version import State
from improve.versions.version_log import VersionRegistry
from tests.improve.versions.test_version_log import plan
from watch.once import switch, watch_once
from watch.timers import install_hint, parse_interval

NOW = datetime(2026, 6, 1, 6, tzinfo=UTC)


@pytest.fixture
def served(tmp_path: Path) -> Path:
    """A workspace with a champion that keeps its promise."""
    path = plan(tmp_path, "one", model="no/model")
    VersionRegistry(tmp_path).register(path, State.CHAMPION, "improve", "better")
    look = ProbeLook("v0001", "run", "promised", 9, 1.0, (0.7, 1.0), 1.0, 1.0, 0.001, False)
    log = DecisionLog(tmp_path)
    log.append(Decision(NOW.isoformat(), "nothing", "it was asked", "v0001", probe=look))
    return tmp_path


def lines(workspace: Path) -> list[dict[str, Any]]:
    text = (workspace / "watch" / "log.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def test_nothing_is_a_decision_and_a_line_too(served: Path) -> None:
    decision = watch_once(served, NOW + timedelta(hours=1))
    assert (decision.decision, decision.version) == ("nothing", "v0001")
    line = lines(served)[-1]
    assert line == json.loads(json.dumps(decision.as_json()))
    assert line["triggers"]["age"] == {"score": 0.042, "threshold": 7.0, "fired": False}
    assert set(line["inputs"]) == {"base", "material", "documents", "plan"}
    assert DecisionLog(served).decisions()[-1] == decision


def test_a_workspace_without_a_version_is_told_what_makes_one(tmp_path: Path) -> None:
    decision = watch_once(tmp_path, NOW)
    assert (decision.decision, decision.version) == ("nothing", None)
    assert "bench improve" in decision.reason


def test_one_watch_looks_at_a_time(served: Path) -> None:
    lock = served / "watch" / "watch.lock"
    with (
        exclusive_lock(lock, "the watch", ""),
        pytest.raises(BenchError, match="the watch is being written by process"),
    ):
        watch_once(served, NOW)


def test_the_switch(served: Path) -> None:
    switch(served, "we move house")
    assert watch_once(served, NOW + timedelta(days=30)).reason == "switched off: we move house"
    switch(served, "")
    assert "was last asked" in watch_once(served, NOW + timedelta(days=30)).reason


def test_a_failure_is_a_line_and_is_tried_again_after_growing_pauses(served: Path) -> None:
    now, tried = NOW + timedelta(days=8), []
    for _ in range(40):
        decision = watch_once(served, now)  # the probe set cannot be asked
        if decision.error:
            tried.append((now - NOW - timedelta(days=8)).total_seconds() / 3600)
        now += timedelta(hours=1)
    assert tried == [0, 1, 3, 7, 15, 31]
    assert [line["failures"] for line in lines(served)][:6] == [0, 1, 2, 2, 3, 3]
    assert lines(served)[1]["error"] == "no run has judged `one.yaml`"


def test_a_torn_line_is_a_look_that_was_not(served: Path) -> None:
    log = served / "watch" / "log.jsonl"
    log.write_bytes(log.read_bytes() + b'{"when": "2026-')
    assert watch_once(served, NOW + timedelta(hours=1)).decision == "nothing"
    assert len(lines(served)) == 2


def test_a_look_without_work_loads_no_model(served: Path) -> None:
    script = (
        "import sys; from bench.app import main\n"
        f"code = main(['watch', '--once', '--workspace', {str(served)!r}])\n"
        "heavy = {'torch', 'transformers', 'chromadb', 'numpy', 'xllamacpp', 'peft'}\n"
        "print(code, sorted(heavy & set(sys.modules)))"
    )
    look = DecisionLog(served).decisions()[-1]
    DecisionLog(served).append(
        Decision(datetime.now(UTC).isoformat(), "nothing", "", "v0001", probe=look.probe)
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )
    assert done.stdout.splitlines()[-1] == "0 []", done.stdout + done.stderr


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("30m", timedelta(minutes=30)), ("1h", timedelta(hours=1)), (" 7d ", timedelta(days=7))],
)
def test_intervals(text: str, wanted: timedelta) -> None:
    assert parse_interval(text) == wanted


@pytest.mark.parametrize("text", ["", "1", "0h", "h", "1w", "-1h", "1h30m", "1.5h"])
def test_other_intervals_are_refused(text: str) -> None:
    with pytest.raises(Misuse, match="is no interval"):
        parse_interval(text)


def test_the_hint_names_a_timer_that_makes_up_for_what_was_slept_through(tmp_path: Path) -> None:
    said = install_hint(tmp_path / "100% work space", tmp_path)
    assert "Persistent=true" in said
    assert "100%% work space" in said
    cron = said.splitlines()[-1]
    assert re.match(r"\d{1,2} \* \* \* \* cd ", cron)
    assert "100\\% work space" in cron
    assert "watch --once" in cron
