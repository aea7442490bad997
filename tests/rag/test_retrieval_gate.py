from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.errors import Malformed
from rag.retrieval_gate import (
    OPEN,
    SHUT,
    CalibrationSample,
    Gate,
    calibrate,
    store_gate,
    stored_gates,
)

shares = st.floats(0, 1, allow_nan=False)
trials = st.lists(
    st.builds(CalibrationSample, shares, shares, st.booleans(), st.booleans()), max_size=80
)


@pytest.mark.parametrize(
    ("gate", "score", "confidence", "opens"),
    [
        (OPEN, -1.0, 1.0, True),
        (OPEN, None, 0.1, False),
        (SHUT, 1.0, 0.0, False),
        (Gate(0.5), 0.5, None, True),
        (Gate(0.5), 0.49, None, False),
        (Gate(0.5, 0.8), 0.9, 0.8, True),
        (Gate(0.5, 0.8), 0.9, 0.81, False),
        (Gate(0.5, 0.8), 0.9, None, True),
    ],
)
def test_a_gate_opens_for_a_good_passage_and_an_unsure_model(
    gate: Gate, score: float | None, confidence: float | None, opens: bool
) -> None:
    assert gate.opens(score, confidence) is opens


def test_retrieval_gate_that_help_are_let_in() -> None:
    gate, _ = calibrate({3: [CalibrationSample(0.7, 0.3, base=False, helped=True)] * 20})
    assert (gate.n_opened, gate.gains, gate.losses) == (20, 20, 0)
    assert gate.opens(0.7, 0.3)


def test_retrieval_gate_that_do_harm_where_they_fit_badly_are_let_in_only_where_they_fit() -> None:
    good = [CalibrationSample(0.8, 0.3, base=False, helped=True)] * 15
    bad = [CalibrationSample(0.2, 0.3, base=True, helped=False)] * 15
    gate, _ = calibrate({3: good + bad})
    assert gate.opens(0.8, 0.3)
    assert not gate.opens(0.2, 0.3)
    assert (gate.gains, gate.losses) == (15, 0)


def test_a_sure_model_is_left_alone_where_passages_confuse_it() -> None:
    unsure = [CalibrationSample(0.5, 0.3, base=False, helped=True)] * 15
    sure = [CalibrationSample(0.5, 0.99, base=True, helped=False)] * 15
    gate, _ = calibrate({3: unsure + sure})
    assert gate.opens(0.5, 0.3)
    assert not gate.opens(0.5, 0.99)


@pytest.mark.parametrize(
    "found",
    [
        [],
        [CalibrationSample(0.7, 0.5, base=True, helped=True)] * 100,
        [CalibrationSample(0.7, 0.5, base=True, helped=False)] * 30,
        # Four to nothing has p = 1/16: luck.
        [CalibrationSample(0.7, 0.5, base=False, helped=True)] * 4,
        [CalibrationSample(0.7, 0.5, False, True)] * 12
        + [CalibrationSample(0.7, 0.5, True, False)] * 8,
    ],
)
def test_without_proof_the_gate_stays_shut(found: list[CalibrationSample]) -> None:
    gate, _ = calibrate({3: found})
    assert gate.closed
    assert gate.n == len(found)


@given(trials)
def test_what_a_gate_reports_is_what_it_does(found: list[CalibrationSample]) -> None:
    gate, tried = calibrate({3: found})
    inside = [t for t in found if gate.opens(t.score, t.confidence)]
    assert gate.n_opened == len(inside)
    assert gate.gains - gate.losses == sum(t.helped - t.base for t in inside)
    assert gate.gains >= gate.losses
    proven = [g for g in tried if g.p < 0.05]
    assert gate.closed == (not proven)
    assert all(g.gains - g.losses <= gate.gains - gate.losses for g in proven)


def test_the_number_of_passages_is_chosen_too() -> None:
    one = [CalibrationSample(0.7, 0.3, base=False, helped=True)] * 20
    three = [CalibrationSample(0.7, 0.3, base=False, helped=n % 2 == 0) for n in range(20)]
    assert calibrate({1: one, 3: three})[0].k == 1
    assert calibrate({1: three, 3: one})[0].k == 3
    assert calibrate({1: one, 3: one})[0].k == 1
    assert calibrate({})[0].closed


def test_gates_are_stored_per_model(tmp_path: Path) -> None:
    gate, tried = calibrate({3: [CalibrationSample(0.7, 0.3, base=False, helped=True)] * 20})
    store_gate(tmp_path, "sha256:one", gate, tried)
    path = store_gate(tmp_path, "sha256:two", SHUT, [OPEN])
    found = stored_gates(tmp_path)
    assert found["sha256:one"] == gate.as_json()
    assert found["sha256:two"]["closed"]
    # JSON has no infinity.
    json.loads(path.read_text(), parse_constant=pytest.fail)
    assert math.isinf(SHUT.score)
    stored = json.loads(path.read_text())
    stored["gate"]["let_in"] = stored["gate"].pop("n_opened")
    path.write_text(json.dumps(stored))
    assert stored_gates(tmp_path)["sha256:two"] == SHUT.as_json()
    path.write_text("garbage")
    with pytest.raises(Malformed):
        stored_gates(tmp_path)


def test_digests_of_treatments_do_not_depend_on_the_names_of_fields() -> None:
    assert repr(Gate(0.4, 0.9, 3, 20, 12, 6, 1, 0.0625)) == (
        "Gate(score=0.4, confidence=0.9, k=3, n=20, let_in=12, gains=6, losses=1, p=0.0625)"
    )
