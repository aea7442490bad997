from __future__ import annotations

import pytest

from benchmarks.runs.store import Record
from improve.diagnose import TriageAnswers, by_id, misses, triage
from improve.select import score_treatment


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


def test_what_only_the_better_form_brings_out_is_counted_among_the_hits() -> None:
    # In the tasks' own form q0 was wrong, q1 right, and q2, now wrong, was right.
    own = [record("q0", False), record("q1", True), record("q2", True), record("q3", None)]
    found = triage(TriageAnswers(by_id(BASE), {}, {}, {}, by_id(own)))["biology"]
    assert (found.hits, found.form) == (2, 1)
    assert found.as_json()["form"] == 1
    assert triage(TriageAnswers(by_id(BASE), {}, {}, {}))["biology"].form == 0


def test_without_passages_all_that_is_not_noise_is_beyond() -> None:
    again = [record("q2", True)]
    found = triage(TriageAnswers(by_id(BASE), by_id(again), {}, {}))["biology"]
    assert (found.noise, found.unrecoverable, found.ceilings["rag"]) == (1, 3, 0.0)


def test_a_question_without_an_answer_is_nobodys_miss() -> None:
    assert misses(BASE) == ["q2", "q3", "q4", "q5"]


def test_a_domain_without_answers_has_no_score() -> None:
    assert score_treatment([record("q", None)]).n == 0
