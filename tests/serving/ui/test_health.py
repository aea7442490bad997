"""The page "health": versions over time, and what is asked beside the exam."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

from starlette.testclient import TestClient

from domainlift.jsonl import AppendLog
from improve.versions.decision_log import Decision, DecisionLog, ProbeLook
from improve.versions.version import Event, Evidence, State, Version, made_of
from improve.versions.version_log import VersionRegistry
from tests.helpers.made_runs import question, record, store
from tests.serving.ui.test_views import EVIL, events


def put_versions(workspace: Path, count: int = 3, why: str = "better") -> None:
    """A log of so many versions, a month apart; the last is champion."""
    log = AppendLog(VersionRegistry(workspace).log)
    log.path.parent.mkdir(exist_ok=True)
    with log.writing():
        for n in range(1, count + 1):
            when = f"2026-{n:02}-01T06:00:00+00:00"
            share = 0.7 + n / 50
            evidence = Evidence("promoted", 200, share, (share - 0.06, share + 0.05), "", "judged")
            made = Version(
                f"v{n:04}", when, "echo", "d", f"versions/v{n:04}/p.yaml", f"c{n}", {}, evidence
            )
            event = Event(made.name, when, "improve", why, State.CHAMPION, made_of(made))
            log.append(event.row())


def test_health_says_what_there_is_not(client: TestClient) -> None:
    page = client.get("/health").text
    assert "No version yet" in page
    assert "No question was served yet" in page


def test_health_shows_versions_on_a_time_axis(client: TestClient, tmp_path: Path) -> None:
    put_versions(tmp_path, why=EVIL)
    page = client.get("/health").text
    assert "<code>v0003</code> of <code>echo</code> is served, since 2026-03-01 06:00" in page
    assert page.count('class="whisker"') == 3
    assert "2026-02-01: v0002, held-out: 74.0 % ([0.680, 0.790]), n 200" in page
    assert page.count("▲ champion") == 3 + 1  # and the legend
    assert "○ archived" not in page  # each was replaced, which the next one tells
    assert EVIL not in page


def test_health_shows_probes_drops_and_decisions(client: TestClient, tmp_path: Path) -> None:
    put_versions(tmp_path)
    look = ProbeLook("v0003", "run", "again", 100, 0.7, (0.6, 0.8), 0.8, 0.001, 0.01, True)
    log = DecisionLog(tmp_path)
    for day, made in enumerate(
        (
            Decision("", "nothing", "as before", probe=replace(look, seen=False)),
            Decision("", "challenge", f"below 95 %: {EVIL}", probe=look),
            Decision("", "reject", "no better", challenger="v0009"),
            Decision("", "nothing", "it failed", error="no disk"),
            Decision("", "nothing", "nothing has changed"),
        ),
        10,
    ):
        log.append(replace(made, when=f"2026-03-{day}T06:00:00+00:00"))
    page = client.get("/health").text
    assert page.count("<circle") == 2
    assert "2026-03-11: v0003, probe: 70.0 % ([0.600, 0.800]), n 100" in page
    for told in ("▼ drop", "⊘ reject", "! failed"):
        assert page.count(told) == 2, told
    assert "nothing has changed" not in page
    assert EVIL not in page
    assert "v0009" in page


def test_health_compares_what_is_asked_with_the_exam(asking: TestClient, tmp_path: Path) -> None:
    put_versions(tmp_path)
    for _ in range(3):
        events(asking, "When are leeks sown?", "auto")
        events(asking, "When are leeks sown?", "base")  # was not routed
    page = asking.get("/health").text
    assert "3 questions were served; the run that judged the version is not here" in page
    asked = [question(n, "garden") for n in range(40)]
    records = [record(q, True, route="garden" if n % 2 else "") for n, q in enumerate(asked)]
    store(tmp_path, "judged", list(zip(asked, records, strict=True)))
    page = asking.get("/health").text
    assert "The last 3 served questions beside the 40 that judged" in page
    assert re.search(r"garden</th>.*?>3</td>.*?>100.0</td>.*?>50.0</td>", page, re.S)
    assert "no domain" in page
