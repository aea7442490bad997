from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from benchmarks.results.comparison import compare_runs
from benchmarks.results.domain_scores import evaluate_run
from benchmarks.results.letters import LetterChoice, LetterCounts, count_letters
from reports.compare_html import render_html
from reports.compare_json import as_json
from reports.compare_markdown import render_markdown
from tests.helpers import made_runs as made

CLOZE = {"tasks": {"exam": {"scoring": "cloze", "shots": 0}}}


def counted(chosen: str, gold: str, options: int = 4) -> LetterCounts:
    """Letters as texts of equal length; every question stands alone."""
    pairs = zip(chosen, gold, strict=True)
    found = count_letters(LetterChoice(ord(a) - 65, ord(b) - 65, options, "") for a, b in pairs)
    assert found is not None
    return found


def test_letters_are_counted_beside_the_right_ones() -> None:
    found = counted("AAAB", "ABCD")
    assert found.chosen == {"A": 3, "B": 1, "C": 0, "D": 0}
    assert found.gold == {"A": 1, "B": 1, "C": 1, "D": 1}
    assert found.n == 4


@pytest.mark.parametrize(
    ("chosen", "gold", "habit"),
    [
        ("B" * 300, "ABCD" * 75, "B"),
        ("B" * 270 + "ACD" * 10, "ABCD" * 75, "B"),
        ("ABCD" * 75, "ABCD" * 75, None),  # knows all
        ("ABCD" * 75, "BCDA" * 75, None),  # wrong everywhere, but without a habit
        ("BBBB", "ABCD", None),  # too few to tell
        ("A" * 300, "A" * 300, None),  # always A, and always right
        ("A" * 2700 + "BCD" * 2100, "ABCD" * 2250, None),  # shown, but small
    ],
)
def test_a_habit_is_a_letter_said_much_more_often_than_it_is_right(
    chosen: str, gold: str, habit: str | None
) -> None:
    found = counted(chosen, gold)
    assert found.habit == habit
    assert bool(found.habit_text) == (habit is not None)


def test_the_habit_is_said_in_shares() -> None:
    text = counted("B" * 279 + "C" * 17 + "A" * 4, "ABCD" * 75).habit_text
    assert text == "says B to 93 % of 300 questions, right is B in 25 %"


@pytest.mark.parametrize("options", range(2, 11))
def test_a_guesser_is_rarely_suspected_whatever_the_number_of_options(options: int) -> None:
    draw = random.Random(options)
    letters = [chr(65 + k) for k in range(options)]
    suspected = 0
    for _ in range(300):
        chosen, gold = ("".join(draw.choices(letters, k=60)) for _ in range(2))
        suspected += counted(chosen, gold, options).p < 0.05
    assert suspected <= 24  # 8 % of 300: binomial(300, 0.05) is above that once in 200 times


def test_copies_on_one_passage_prove_less() -> None:
    alone = [LetterChoice(0, 1 + n % 3, 4, "") for n in range(24)]
    shared = [each._replace(cluster=f"p{n // 8}") for n, each in enumerate(alone)]
    found = [count_letters(each) for each in (alone, shared)]
    assert found[0] is not None
    assert found[1] is not None
    assert found[0].p < 0.001 < found[1].p


def test_a_stored_run_by_letters_says_its_habit_in_every_view(tmp_path: Path) -> None:
    asked = [made.question(n) for n in range(80)]
    rows = [(q, made.record(q, q.answer == 0, chosen=0)) for q in asked]
    fair = [(q, made.record(q, True)) for q in asked]
    habit, other = made.store(tmp_path, "habit", rows), made.store(tmp_path, "fair", fair)
    data = json.loads(json.dumps(evaluate_run(habit).as_json()))
    for part in (data["overall"], data["domains"]["history"]):
        assert part["letters"]["chosen"] == {"A": 80, "B": 0, "C": 0, "D": 0}
        assert part["letters"]["gold"] == dict.fromkeys("ABCD", 20)
        assert part["letters"]["p"] < 0.001
    compared = compare_runs(habit, other)
    sides = as_json(compared)["overall"]["sides"]
    assert sides["baseline"]["letters"] == data["overall"]["letters"]
    assert sides["candidate"]["letters"]["p"] == 1
    assert any("says A to 100 % of 80 questions" in warning for warning in compared.warnings)
    assert "| baseline | 80 / 20 | 0 / 20 | 0 / 20 | 0 / 20 | &lt;0.001 |" in render_markdown(
        compared
    )
    assert "80 / 20" in render_html(compared)


def test_where_no_letters_were_shown_none_are_counted(tmp_path: Path) -> None:
    asked = [made.question(n) for n in range(8)]
    run = made.store(tmp_path, "c", [(q, made.record(q, True)) for q in asked], settings=CLOZE)
    assert evaluate_run(run).overall.letters is None
    assert evaluate_run(run).as_json()["overall"]["letters"] is None
