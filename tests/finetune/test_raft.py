from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tasks.base import ALL_MODES, Task
from domainlift.types import Passage, Question, Split
from engines.base import Mode
from finetune.data.sources.raft import (
    Contexts,
    ContextSettings,
    context_rows,
    evidence,
    with_context,
)


def passage(number: int, text: str, place: str = "") -> Passage:
    return Passage(text, "Garden", f"p{number}", place or f"garden.md#{number}", 0.5, 0.5, 1.0)


FOUND = (
    passage(0, "Tulips are planted in autumn."),
    passage(1, "Roses are pruned in late winter, before the buds break."),
    passage(2, "Cacti hardly need water in late winter."),
    passage(3, "A pond needs a hole in its ice."),
    passage(4, "Bees overwinter as a cluster."),
)


def question(
    number: int = 0,
    options: tuple[str, ...] = ("summer", "late winter"),
    answer: int | str = 1,
    support: str = "",
    split: Split = "train",
) -> Question:
    text = f"When are roses pruned, year {number}?"
    return Question(f"q{number}", "gardening", "own", text, options, answer, "", split, support)


TASK = Task("own", "gardening", (), (), "", Mode.CLOZE, ALL_MODES, 0, "")


@pytest.mark.parametrize(
    ("asked", "place"),
    [
        (question(), 1),
        (question(support="garden.md#2"), 2),
        (question(support="garden.md#0"), None),
        (question(options=(), answer="Before the buds break!"), 1),
        (question(options=(), answer="before the buds"), 1),
        (question(options=(), answer="bud"), None),
        (question(options=(), answer="its"), None),  # too short to be more than chance
        (question(options=(), answer="its", support="garden.md#3"), 3),
        (question(options=(), answer="spring"), None),
    ],
)
def test_the_best_passage_that_holds_the_answer(asked: Question, place: int | None) -> None:
    assert evidence(asked, FOUND) == (None if place is None else FOUND[place])


@given(st.integers(0, 400), st.integers(1, 5), st.floats(0, 1), st.integers(0, 9))
def test_at_most_one_passage_holds_the_answer(
    number: int, distractors: int, without: float, seed: int
) -> None:
    asked, setting = question(number), ContextSettings(distractors, without, seed)
    shown = with_context(asked, FOUND, FOUND[1], setting)
    holding = [each for each in shown if "late winter" in each.text]
    assert [each.id for each in holding] in ([], ["p1"])
    assert len({each.id for each in shown}) == len(shown) == min(distractors + 1, 3 + len(holding))
    assert with_context(asked, FOUND, FOUND[1], setting) == shown


def test_the_right_one_is_left_out_in_a_fifth_of_the_rows_and_stands_anywhere() -> None:
    pairs = [(question(number), FOUND) for number in range(1000)]
    made = context_rows(TASK, pairs, ContextSettings())
    assert (len(made.rows), made.skipped) == (1000, 0)
    assert 160 <= made.alone <= 240
    assert sum("pruned in late winter" not in row.prompt for row in made.rows) == made.alone
    for place in (1, 2, 3):
        assert any(f"[{place}] Garden: Roses" in row.prompt for row in made.rows)
    assert all(row.completion == " late winter" for row in made.rows)
    assert context_rows(TASK, pairs, ContextSettings()) == made
    assert context_rows(TASK, pairs, ContextSettings(seed=1)).rows != made.rows


def test_every_row_is_kept_with_its_plain_one() -> None:
    (row,) = context_rows(TASK, [(question(7), FOUND)], ContextSettings(), licence="CC0").rows
    assert (row.kind, row.source, row.domain) == ("question-context", "own#q7", "gardening")
    assert row.licence == "CC0"


def test_a_row_is_under_all_its_licences() -> None:
    licences = {"p0": "MIT", "p1": "CC BY 4.0", "p3": "CC0", "p4": ""}
    setting = ContextSettings(distractors=2, without=0.0)
    made = context_rows(TASK, [(question(), FOUND)], setting, licence="CC0", licences=licences)
    assert made.rows[0].licence == "CC BY 4.0 and CC0 and MIT"


def test_what_has_no_evidence_is_counted_and_other_splits_are_not() -> None:
    pairs = [
        (question(1, answer=0), FOUND),
        (question(2), ()),
        (question(3, split="test"), FOUND),
        (question(4, split="validation"), FOUND),
    ]
    assert context_rows(TASK, pairs, ContextSettings()) == Contexts((), 0, 2)


def test_without_anything_else_there_is_no_row_without_the_right_one() -> None:
    made = context_rows(TASK, [(question(), FOUND[1:2])], ContextSettings(without=1.0))
    assert made == Contexts((), 0, 1)
    made = context_rows(TASK, [(question(), FOUND[1:2])], ContextSettings(without=0.0))
    assert (len(made.rows), made.alone) == (1, 0)


def test_several_tasks_add_up() -> None:
    one = context_rows(TASK, [(question(1), FOUND)], ContextSettings(without=1.0))
    two = context_rows(TASK, [(question(2, answer=0), FOUND)], ContextSettings())
    both = Contexts() + one + two
    assert (len(both.rows), both.alone, both.skipped) == (1, 1, 1)
