from __future__ import annotations

from benchmarks.results.strengths import (
    measure_strengths,
    protected_strengths,
    watched_domains,
)
from benchmarks.runs.store import Record
from domainlift.types import Question


def exam(domain: str, right: int, n: int, options: int = 4) -> tuple[list[Record], list[Question]]:
    letters = tuple("abcdefgh"[:options])
    names = [f"{domain}-{k}" for k in range(n)]
    records = [Record(name, domain, "t", "ok", k < right) for k, name in enumerate(names)]
    return records, [Question(name, domain, "t", name, letters, 0) for name in names]


def test_a_strength_is_what_is_right_more_often_than_chance_whatever_is_declared() -> None:
    parts = [
        exam("philosophy", 22, 80),  # declared, and guessed
        exam("mathematics", 60, 80),  # declared, and known
        exam("history", 40, 80),  # known, and not declared
        exam("law", 30, 80),  # p = .009 by itself, .026 as one of five
        exam("choice", 40, 80, options=2),  # half of two options is guessing
    ]
    records = [record for found, _ in parts for record in found]
    questions = [question for _, found in parts for question in found]
    found = measure_strengths(records, questions, {"philosophy", "mathematics"})
    assert set(protected_strengths(found, ())) == {"mathematics", "history", "law"}
    assert set(protected_strengths(found, {"law"})) == {"mathematics", "history"}
    assert set(watched_domains(found, ())) == {"philosophy"}
    assert found["history"].as_json()["chance"] == 0.25
    assert (found["history"].n, found["history"].accuracy) == (80, 0.5)
    assert 0.009 < found["law"].p < 0.05


def test_an_unanswered_question_counts_for_nothing() -> None:
    records, questions = exam("history", 4, 5)
    records.append(Record("x", "history", "t", "error", None))
    assert measure_strengths(records, questions, ())["history"].n == 5
