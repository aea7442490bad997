from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

import improve.alerts
from improve.alerts import (
    Alert,
    AlertTargets,
    decision_alert,
    send_alert,
    targets_from_environment,
)
from improve.versions.decision_log import Decision, ProbeLook, Signal
from tests.helpers.stub_server import Reply, Stub

ALERT = Alert("drop", "accuracy fell\nfrom 0.9 to 0.7", "v0003", "2026-01-01", {"p": 0.001})


@pytest.fixture
def stub() -> Iterator[Stub]:
    made = Stub()
    yield made
    made.close()


def test_a_webhook_gets_a_sentence_and_the_figures(stub: Stub) -> None:
    stub.on("/hook", Reply({}))
    assert send_alert(ALERT, AlertTargets(f"{stub.url}/hook")) == []
    ((_, body),) = stub.asked
    assert body["text"] == "domainlift: accuracy fell from 0.9 to 0.7"
    assert (body["kind"], body["version"], body["figures"]) == ("drop", "v0003", {"p": 0.001})


@pytest.mark.parametrize(("status", "tries"), [(503, 2), (404, 1), (302, 1)])
def test_what_a_webhook_refuses_is_told_without_its_secret(
    stub: Stub, status: int, tries: int
) -> None:
    stub.on("/T0/secret?token=x", Reply({}, status))
    url = stub.url.replace("http://", "http://me:pass@")
    (told,) = send_alert(ALERT, AlertTargets(f"{url}/T0/secret?token=x"))
    assert told == f"the alert could not be sent to {stub.url}/…: status {status}"
    assert len(stub.asked) == tries


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/x", "nonsense", "http://[", "ftp://x/y"])
def test_a_webhook_that_is_not_there_is_told(url: str) -> None:
    assert len(send_alert(ALERT, AlertTargets(url))) == 1


def test_a_command_gets_json_and_no_shell(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(
        "import json, os, pathlib, sys\n"
        "said = {'in': json.load(sys.stdin), 'argv': sys.argv[1:]}\n"
        "said['env'] = os.environ['BENCH_ALERT']\n"
        "pathlib.Path(__file__).with_suffix('.json').write_text(json.dumps(said))\n"
    )
    command = f"{sys.executable} {program} 'two words' ; touch {tmp_path}/no"
    assert send_alert(ALERT, AlertTargets(command=command)) == []
    said = json.loads(program.with_suffix(".json").read_text())
    assert said["argv"][0] == "two words"
    assert said["env"] == "accuracy fell from 0.9 to 0.7"
    assert said["in"]["kind"] == "drop"
    assert not (tmp_path / "no").exists()


@pytest.mark.parametrize(
    ("command", "what"),
    [
        ("/nowhere/at/all", "FileNotFoundError"),
        ("'unclosed", "ValueError"),
        (" ", "IndexError"),
        (f"{sys.executable} -c 'import sys; sys.exit(\"bad\")'", "with 1: bad"),
    ],
)
def test_a_command_that_fails_is_told(command: str, what: str) -> None:
    (told,) = send_alert(ALERT, AlertTargets(command=command))
    assert what in told


def test_a_command_that_hangs_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(improve.alerts, "_SECONDS", 0.2)
    command = f"{sys.executable} -c 'import time; time.sleep(60)'"
    (told,) = send_alert(ALERT, AlertTargets(command=command))
    assert "TimeoutExpired" in told


def test_targets_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("WEBHOOK", "COMMAND"):
        monkeypatch.delenv(f"BENCH_ALERT_{name}", raising=False)
    assert targets_from_environment() == AlertTargets()
    assert send_alert(ALERT, AlertTargets()) == []
    monkeypatch.setenv("BENCH_ALERT_WEBHOOK", "http://127.0.0.1:9/x")
    assert targets_from_environment().webhook.endswith(":9/x")


LOOK = ProbeLook("v0002", "run", "again", 100, 0.7, (0.6, 0.8), 0.8, 0.001, 0.01, True)
FIRED, QUIET = Signal(1, 1, True), Signal(0, 1, False)


def decision(word: str = "nothing", **more: Any) -> Decision:
    return replace(Decision("2026-02-02T06:00:00+00:00", word, "why", "v0002"), **more)


@pytest.mark.parametrize(
    ("made", "kind"),
    [
        (decision(), None),
        (decision("promote"), None),
        (decision("sync", triggers={"documents": FIRED, "gone": QUIET}), None),
        (decision("reject", probe=replace(LOOK, seen=False)), None),
        (decision("rollback", probe=LOOK), "rollback"),
        (decision("challenge", probe=LOOK), "drop"),
        (decision(error="the model is gone"), "failed"),
        (decision("challenge", triggers={"base": FIRED}), "base"),
        (decision(triggers={"gone": FIRED}), "gone"),
    ],
)
def test_what_a_look_is_worth(made: Decision, kind: str | None) -> None:
    alert = decision_alert(made)
    assert (alert.kind if alert is not None else None) == kind
    if alert is not None:
        assert "v0002" in alert.what


def test_what_lasts_is_told_once_and_what_happens_again_is_told_again() -> None:
    gone, failed = decision(triggers={"gone": FIRED}), decision(error="no disk")
    assert decision_alert(gone, gone) is None
    assert decision_alert(gone, decision()) is not None
    assert decision_alert(failed, gone) is not None
    drop = decision("challenge", probe=LOOK)
    assert decision_alert(drop, drop) is not None
