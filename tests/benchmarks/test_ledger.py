from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.ledger import Ledger, spent
from domainlift.errors import Malformed

IDS = ["b", "a", "c"]


def look(ledger: Ledger, candidate: str, ids: list[str] = IDS) -> object:
    return ledger.look(ids, candidate, 0.05, run="r", decision="promote")


def test_every_candidate_is_a_look_and_spends_less(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "new" / "workspace")
    made = [ledger.look(IDS, f"c{n}", 0.05, run="r", decision="promote") for n in range(4)]
    assert [each.number for each in made] == [1, 2, 3, 4]
    assert [each.level for each in made] == [spent(0.05, n) for n in (1, 2, 3, 4)]
    assert ledger.looks() == made


def test_the_same_candidate_is_no_new_look(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    first = look(ledger, "c")
    assert look(ledger, "c", ["c", "a", "b"]) == first
    assert len(ledger.looks()) == 1


def test_other_questions_begin_anew(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    look(ledger, "c")
    assert ledger.look(["d"], "c", 0.05, run="r", decision="p").number == 1


def test_all_looks_together_spend_no_more_than_the_level() -> None:
    assert math.fsum(spent(0.05, n) for n in range(1, 100_000)) == pytest.approx(0.05, rel=1e-4)


def test_fresh_questions_are_due_when_hardly_anything_is_left(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    due = [ledger.look(IDS, f"c{n}", 0.05, run="r", decision="p").due for n in range(6)]
    assert due == [False, False, False, False, True, True]


def test_a_torn_line_is_no_look_and_the_next_one_is_whole(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    look(ledger, "c1")
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + whole[:30])
    assert len(ledger.looks()) == 1
    look(ledger, "c2")
    assert [each.candidate for each in ledger.looks()] == ["c1", "c2"]


def test_a_line_that_is_no_look_is_an_error(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path)
    look(ledger, "c1")
    ledger.path.write_bytes(b"{}\n" + ledger.path.read_bytes())
    with pytest.raises(Malformed, match=":1: not a look"):
        ledger.looks()
