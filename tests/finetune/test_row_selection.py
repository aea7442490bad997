from __future__ import annotations

import pytest

from finetune.data.row_selection import select_rows
from finetune.data.rows import Row

pytest.importorskip("sklearn")

FACTS = {"copper": "wire", "iron": "bridge", "gold": "ring", "tin": "can", "lead": "pipe"}
WORDINGS = ("What is made of {}?", "Of {}, what does one make?", "Name what {} is used for.")


def row(prompt: str, completion: str) -> Row:
    return Row(f"Question: {prompt}\nAnswer:", f" {completion}", "metals")


ROWS = [row(each.format(metal), use) for metal, use in FACTS.items() for each in WORDINGS]
OTHERS = [row(f"Who wrote book {n}?", f"author {n}") for n in range(40)]


def metals(rows: tuple[Row, ...]) -> list[str]:
    return [next((metal for metal in FACTS if metal in each.prompt), "") for each in rows]


def test_every_fact_has_its_turn_before_another_wording_of_one() -> None:
    wrong = [f"What would a smith make of {metal}? {use}" for metal, use in FACTS.items()]
    found = select_rows([*OTHERS, *ROWS], 5, {"wrong": wrong})
    assert sorted(metals(found.rows)) == sorted(FACTS)
    assert found.reasons == ("wrong",) * 5


def test_what_is_got_wrong_comes_first() -> None:
    found = select_rows(ROWS, 3, {"wrong": ["What do smiths make of gold? ring"]})
    assert metals(found.rows) == ["gold"] * 3


def test_both_targets_get_rows() -> None:
    targets = {"wrong": ["gold ring"], "passages": ["Author 7 wrote book 7.", "Book 8: author 8."]}
    found = select_rows([*ROWS, *OTHERS], 4, targets)
    assert set(metals(found.rows)) == {"gold", ""}
    reasons = dict(zip(metals(found.rows), found.reasons, strict=True))
    assert reasons == {"gold": "wrong", "": "passages"}


@pytest.mark.parametrize("targets", [{}, {"wrong": []}, {"wrong": ["gold"]}])
def test_the_choice_is_the_same_again_and_a_smaller_one_begins_a_larger(
    targets: dict[str, list[str]],
) -> None:
    few, more = (select_rows(ROWS, size, targets).rows for size in (4, 9))
    assert few == more[:4]
    assert len(set(more)) == 9
    assert select_rows(ROWS, 9, targets).rows == more


def test_without_a_target_the_rows_stand_for_themselves() -> None:
    found = select_rows([*ROWS, *OTHERS], 8, {})
    assert "" in metals(found.rows)
    assert set(metals(found.rows)) & set(FACTS)


def test_all_rows_are_all_rows() -> None:
    assert select_rows(ROWS, len(ROWS), {"wrong": ["gold"]}).rows == tuple(ROWS)
    assert select_rows(ROWS, 99, {}).reasons == ()
