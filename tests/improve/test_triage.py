from __future__ import annotations

import pytest

from benchmarks.runs.store import Record
from improve.diagnose import TriageAnswers, by_id, misses, triage
from improve.select import cheapest_not_worse, score_treatment


def record(name: str, correct: bool | None, domain: str = "biology", tokens: int = 10) -> Record:
    status = "ok" if correct is not None else "error"
    return Record(name, domain, "t", status, correct, prompt_tokens=tokens)


BASE = [record(f"q{n}", n < 2) for n in range(6)] + [record("e", None)]


def test_each_miss_has_one_fate_and_the_first_that_mends_it_counts() -> None:
    again = [record("q2", True), *(record(f"q{n}", False) for n in (3, 4, 5))]
    passages = [record("q0", False), record("q1", True), record("q2", True), record("q3", True)]
    gold = [record("q3", True), record("q4", True), record("q5", False)]
    found = triage(TriageAnswers(by_id(BASE), by_id(again), by_id(passages), by_id(gold)))[
        "biology"
    ]
    assert (found.n, found.hits, found.noise) == (6, 2, 1)
    assert (found.passages, found.retrieval, found.unrecoverable, found.broken) == (1, 1, 1, 1)
    assert found.ceilings == pytest.approx(
        {"rag": 1 / 6, "rag, retrieval mended": 2 / 6, "lora": 3 / 6, "rag+lora": 3 / 6}
    )


def test_without_passages_all_that_is_not_noise_is_beyond() -> None:
    again = [record("q2", True)]
    found = triage(TriageAnswers(by_id(BASE), by_id(again), {}, {}))["biology"]
    assert (found.noise, found.unrecoverable, found.ceilings["rag"]) == (1, 3, 0.0)


def test_a_question_without_an_answer_is_nobodys_miss() -> None:
    assert misses(BASE) == ["q2", "q3", "q4", "q5"]


def answers(right: int, n: int = 40, tokens: int = 10) -> list[Record]:
    return [record(f"q{k}", k < right, tokens=tokens) for k in range(n)]


@pytest.mark.parametrize(
    ("rights", "chosen"),
    [
        ({"base": 10, "lora": 30, "rag": 40}, "rag"),  # the adapter loses ten of ten
        ({"base": 10, "lora": 38, "rag": 40}, "lora"),  # two of two may be luck
        ({"base": 37, "lora": 40, "rag": 40}, "base"),  # no treatment is shown to help
        ({"base": 10, "lora": 40, "rag": 10}, "lora"),
        ({"base": 20}, "base"),
    ],
)
def test_the_cheapest_that_is_not_worse_is_taken(rights: dict[str, int], chosen: str) -> None:
    assert cheapest_not_worse({name: answers(right) for name, right in rights.items()}) == chosen


def test_one_that_turns_many_both_ways_hides_no_better_one() -> None:
    """Adapter and passages are as good; only the passages show that the base model is worse."""
    base = [record(f"q{n}", n < 9) for n in range(40)]
    lora = [record(f"q{n}", 6 <= n < 23) for n in range(40)]
    rag = [record(f"q{n}", 1 <= n < 18) for n in range(40)]
    assert cheapest_not_worse({"base": base, "lora": lora}) == "base"
    assert cheapest_not_worse({"base": base, "lora": lora, "rag": rag}) == "lora"


def test_a_domain_without_answers_keeps_the_base_model() -> None:
    nothing = [record("q", None)]
    assert cheapest_not_worse({"base": nothing, "rag": nothing}) == "base"
    assert score_treatment(nothing).n == 0
