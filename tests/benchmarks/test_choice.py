"""The better treatment is the default, and a cheaper one has to be shown not worse."""

from __future__ import annotations

import random
from dataclasses import replace

import pytest

from benchmarks.held_out.choice import (
    ALPHA,
    ChoiceCriteria,
    ChoiceRule,
    Prefer,
    choose_treatment,
    compare_answers,
    not_worse,
)
from benchmarks.held_out.gate import MinGain
from benchmarks.runs.store import Record

TERMS = ChoiceCriteria()
COST = ChoiceCriteria(prefer=Prefer.COST)


def record(name: str, correct: bool | None) -> Record:
    return Record(name, "biology", "t", "ok" if correct is not None else "error", correct)


def answers(right: int, n: int) -> list[Record]:
    return [record(f"q{k}", k < right) for k in range(n)]


@pytest.mark.parametrize(
    ("n", "rights", "chosen", "rule"),
    [
        (7, {"base": 2, "lora": 6, "rag": 7}, "rag", ChoiceRule.BEST),
        (83, {"base": 21, "lora": 79, "rag": 83}, "rag", ChoiceRule.BEST),
        (84, {"base": 21, "lora": 84, "rag": 84}, "lora", ChoiceRule.EQUAL),
        (400, {"base": 100, "lora": 399, "rag": 400}, "lora", ChoiceRule.NOT_WORSE),
        (400, {"base": 100, "lora": 390, "rag": 400}, "rag", ChoiceRule.BEST),
        (100, {"base": 97, "lora": 98, "rag": 100}, "base", ChoiceRule.GAIN_TOO_SMALL),
        # Not worse than passages by the margin, but itself no gain of five points.
        (400, {"base": 377, "lora": 396, "rag": 397}, "rag", ChoiceRule.BEST),
        (40, {"base": 20, "rag": 12}, "base", ChoiceRule.BEST),
        (40, {"base": 20}, "base", ChoiceRule.UNTRIED),
    ],
)
def test_what_decides(n: int, rights: dict[str, int], chosen: str, rule: ChoiceRule) -> None:
    found = choose_treatment({name: answers(r, n) for name, r in rights.items()}, {}, TERMS)
    assert (found.treatment, found.rule) == (chosen, rule)
    assert (found.p is not None) == (rule is ChoiceRule.NOT_WORSE)


@pytest.mark.parametrize(
    ("rights", "chosen"),
    [
        ({"base": 10, "lora": 30, "rag": 40}, "rag"),  # the adapter loses ten of ten
        ({"base": 10, "lora": 38, "rag": 40}, "lora"),  # two of two may be luck
        ({"base": 37, "lora": 40, "rag": 40}, "base"),  # no treatment is shown to help
        ({"base": 10, "lora": 40, "rag": 10}, "lora"),
    ],
)
def test_who_prefers_cost_gets_the_cheapest_that_is_not_shown_worse(
    rights: dict[str, int], chosen: str
) -> None:
    found = choose_treatment({name: answers(r, 40) for name, r in rights.items()}, {}, COST)
    assert (found.treatment, found.rule) == (chosen, ChoiceRule.COST)


def test_one_that_turns_many_both_ways_hides_no_better_one() -> None:
    """Adapter and passages are as good; only the passages show that the base model is worse."""
    base = [record(f"q{n}", n < 9) for n in range(40)]
    lora = [record(f"q{n}", 6 <= n < 23) for n in range(40)]
    rag = [record(f"q{n}", 1 <= n < 18) for n in range(40)]
    assert choose_treatment({"base": base, "lora": lora}, {}, COST).treatment == "base"
    three = {"base": base, "lora": lora, "rag": rag}
    assert choose_treatment(three, {}, COST).treatment == "lora"


def test_a_domain_without_answers_keeps_the_base_model() -> None:
    nothing = [record("q", None)]
    for criteria in (TERMS, COST, replace(TERMS, min_gain=MinGain(0.0))):
        found = choose_treatment({"base": nothing, "rag": nothing}, {}, criteria)
        assert found.treatment == "base"
    assert choose_treatment({}, {}, TERMS).treatment == "base"


def test_questions_on_one_passage_show_less() -> None:
    """Three losses of 400 are shown to be no two points; all on one passage they are not."""
    three = {"base": answers(100, 400), "lora": answers(397, 400), "rag": answers(400, 400)}
    shared = {f"q{k}": f"passage {k // 20}" for k in range(400)}
    assert choose_treatment(three, {}, TERMS).treatment == "lora"
    assert choose_treatment(three, shared, TERMS).treatment == "rag"


def test_one_that_is_worse_by_the_margin_is_taken_with_at_most_the_error_rate() -> None:
    """Simulated: of 60 questions the cheaper one loses a share of .13 and gains .03, in truth."""
    draw, taken, times, n = random.Random(5), 0, 1000, 60
    shown: dict[tuple[int, int], bool] = {}
    for _ in range(times):
        turns = draw.choices(("gain", "loss", "same"), (0.03, 0.13, 0.84), k=n)
        before = [record(f"q{k}", turn != "gain") for k, turn in enumerate(turns)]
        after = [record(f"q{k}", turn != "loss") for k, turn in enumerate(turns)]
        change = compare_answers(before, after, {})
        key = change.gains, change.losses
        if key not in shown:
            shown[key] = not_worse(change, 0.1) < ALPHA
        taken += shown[key]
    # 0.05 of 1,000 is 50; 72 or more have a probability of 0.002.
    assert 0 < taken < 72
