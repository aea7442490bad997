from __future__ import annotations

import math
from pathlib import Path

import pytest

from benchmarks.held_out.ledger import HeldOutLedger, HeldOutUse, alpha_spent
from domainlift.errors import Malformed

Asked = tuple[dict[str, str], list[str]]
ASKED: Asked = ({"t": "d"}, ["b", "a", "c"])


def look(ledger: HeldOutLedger, candidate: str, asked: Asked = ASKED) -> HeldOutUse:
    return ledger.record_use(*asked, candidate, 0.05, run="r", decision="promote")


def test_every_candidate_is_a_look_and_spends_less(tmp_path: Path) -> None:
    ledger = HeldOutLedger(tmp_path / "new" / "workspace")
    made = [look(ledger, f"c{n}") for n in range(4)]
    assert [each.number for each in made] == [1, 2, 3, 4]
    assert [each.level for each in made] == [alpha_spent(0.05, n) for n in (1, 2, 3, 4)]
    assert ledger.uses() == made


def test_the_same_candidate_is_no_new_look(tmp_path: Path) -> None:
    ledger = HeldOutLedger(tmp_path)
    first = look(ledger, "c")
    assert look(ledger, "c", (ASKED[0], ["c", "a", "b"])) == first
    assert len(ledger.uses()) == 1


@pytest.mark.parametrize(
    ("asked", "number"),
    [
        (({"u": "d"}, ["d"]), 1),
        (({"t": "other data"}, ["d"]), 1),
        (({"t": "d"}, ["a"]), 2),  # a smaller sample of the same task
        (({"t": "d", "u": "d"}, ["a", "b", "c", "d"]), 2),  # a larger suite
    ],
)
def test_only_questions_of_other_tasks_begin_anew(
    tmp_path: Path, asked: Asked, number: int
) -> None:
    ledger = HeldOutLedger(tmp_path)
    look(ledger, "c")
    assert look(ledger, "c", asked).number == number


def test_all_looks_together_spend_no_more_than_the_level() -> None:
    assert math.fsum(alpha_spent(0.05, n) for n in range(1, 100_000)) == pytest.approx(
        0.05, rel=1e-4
    )


def test_fresh_questions_are_due_when_hardly_anything_is_left(tmp_path: Path) -> None:
    ledger = HeldOutLedger(tmp_path)
    due = [look(ledger, f"c{n}").exhausted for n in range(6)]
    assert due == [False, False, False, False, True, True]


def test_a_torn_line_is_no_look_and_the_next_one_is_whole(tmp_path: Path) -> None:
    ledger = HeldOutLedger(tmp_path)
    look(ledger, "c1")
    whole = ledger.path.read_bytes()
    ledger.path.write_bytes(whole + whole[:30])
    assert len(ledger.uses()) == 1
    look(ledger, "c2")
    assert [each.candidate for each in ledger.uses()] == ["c1", "c2"]


def test_a_line_that_is_no_look_is_an_error(tmp_path: Path) -> None:
    ledger = HeldOutLedger(tmp_path)
    look(ledger, "c1")
    ledger.path.write_bytes(b"{}\n" + ledger.path.read_bytes())
    with pytest.raises(Malformed, match=":1: not a look"):
        ledger.uses()
