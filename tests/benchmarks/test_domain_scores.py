from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.results.domain_scores import EvalResult, evaluate_records, evaluate_run
from benchmarks.runs.runner import EvalSettings, execute_run, open_run, prepare_job
from benchmarks.runs.store import Record, RunManifest, RunStore
from domainlift.stats.intervals import Verdict, wilson
from domainlift.types import Question
from tests.helpers import fake_engine as fake

MANIFEST = RunManifest("r-1", "m", "s", {}, {}, {}, {}, 0, "2025", seconds=2.5, forward_tokens=77)
OPTIONS = ("Paris", "Rome", "Bern", "Oslo")
Case = tuple[Question, Record | None]


def case(
    number: int,
    correct: bool | None,
    domain: str = "history",
    status: str | None = None,
    cluster: str = "",
    **more: object,
) -> Case:
    said = status if status is not None else ("error" if correct is None else "ok")
    identity = f"{domain}-{number}"
    question = Question(identity, domain, "t", f"Q{number}?", OPTIONS, number % 4, cluster=cluster)
    chosen = more.pop("chosen", number % 4 if correct else (number + 1) % 4)
    return question, Record(identity, domain, "t", said, correct, chosen=chosen, **more)  # type: ignore[arg-type]


def summary(cases: list[Case], target: float = 0.6) -> EvalResult:
    questions = {question.id: question for question, _ in cases}
    records = [record for _, record in cases if record is not None]
    return evaluate_records(MANIFEST, questions, records, target)


def test_domains_and_the_whole_are_counted() -> None:
    cases = [case(n, n < 6, "law") for n in range(8)] + [case(n, n < 1) for n in range(4)]
    made = summary(cases)
    assert list(made.domains) == ["history", "law"]
    law, history = made.domains["law"], made.domains["history"]
    assert (law.n, law.correct, law.accuracy) == (8, 6, 0.75)
    assert (history.n, history.correct, history.accuracy) == (4, 1, 0.25)
    assert (made.overall.n, made.overall.correct) == (12, 7)
    assert law.chance == made.overall.chance == 0.25
    assert law.interval == wilson(6, 8)
    assert (made.run, made.model, made.suite, made.target) == ("r-1", "m", "s", 0.6)
    assert (made.seconds, made.forward_tokens, made.missing) == (2.5, 77, 0)


def test_what_was_not_answered_stands_apart() -> None:
    cases = [
        *(case(n, True) for n in range(3)),
        case(3, False),
        case(4, False, status="unparsed", chosen=None),
        case(5, None, status="truncated"),
        case(6, None, status="truncated"),
        case(7, None, status="error", error="x"),
    ]
    cases.append((Question("history-8", "history", "t", "Q8?", OPTIONS, 0), None))
    made = summary(cases)
    score = made.domains["history"]
    assert (score.n, score.correct) == (5, 3)
    assert (score.unparsed, score.truncated, score.errors) == (1, 2, 1)
    assert made.missing == 1


def test_a_domain_of_errors_has_no_accuracy() -> None:
    score = summary([case(1, None), case(2, None)]).domains["history"]
    assert (score.n, score.accuracy, score.verdict, score.further) == (0, None, None, None)
    assert (score.interval.low, score.interval.high) == (0, 1)
    assert not score.below_chance


@pytest.mark.parametrize(
    ("right", "n", "target", "verdict"),
    [
        (95, 100, 0.6, Verdict.STRONG),
        (30, 100, 0.6, Verdict.WEAK),
        (60, 100, 0.6, Verdict.UNCERTAIN),
        (55, 100, 0.6, Verdict.UNCERTAIN),
        (30, 100, 0.1, Verdict.STRONG),
        (1, 1, 0.6, Verdict.UNCERTAIN),
    ],
)
def test_the_interval_decides_the_verdict(
    right: int, n: int, target: float, verdict: Verdict
) -> None:
    score = summary([case(k, k < right) for k in range(n)], target).domains["history"]
    assert score.verdict is verdict
    if verdict is not Verdict.UNCERTAIN:
        assert score.further is None


def test_an_uncertain_domain_says_how_many_questions_would_settle_it() -> None:
    score = summary([case(k, k < 55) for k in range(100)]).domains["history"]
    assert score.further is not None
    assert 0 < score.further < 1000
    # At the target itself nothing ever settles it.
    assert summary([case(k, k < 60) for k in range(100)]).domains["history"].further is None


def test_questions_on_one_passage_widen_the_interval() -> None:
    alone = [case(k, k < 20) for k in range(40)]
    shared = [case(k, k < 20, cluster=f"p{k // 5}") for k in range(40)]
    a, b = summary(alone).domains["history"].interval, summary(shared).domains["history"].interval
    assert b.high - b.low > 1.5 * (a.high - a.low)


def test_a_score_below_chance_is_shown_with_three_replies() -> None:
    cases = [case(k, k < 2, text=f"It is\n{k}!") for k in range(80)]
    score = summary(cases).domains["history"]
    assert score.below_chance
    assert score.samples == (
        "…Q2? → 'It is\\n2!' (right: 'Bern')",
        "…Q3? → 'It is\\n3!' (right: 'Oslo')",
        "…Q4? → 'It is\\n4!' (right: 'Paris')",
    )


def test_without_text_the_chosen_option_is_shown() -> None:
    score = summary([case(k, False) for k in range(80)]).domains["history"]
    assert score.samples[0] == "…Q0? → 'Rome' (right: 'Paris')"
    unread = [case(k, False, status="unparsed", chosen=None) for k in range(80)]
    assert summary(unread).domains["history"].samples[0] == "…Q0? → None (right: 'Paris')"


def test_an_open_answer_is_shown_as_it_is() -> None:
    question = Question("o", "history", "t", "How many?", (), "42")
    other = [case(k, False) for k in range(80)]
    record = Record("o", "history", "t", "ok", False, chosen="41", text="41")
    made = summary([(question, record), *other])
    assert made.domains["history"].samples[0] == "…How many? → '41' (right: '42')"


@pytest.mark.parametrize(
    ("right", "guessing", "faulty"),
    [(80, False, False), (20, True, False), (10, True, False), (0, False, True)],
)
def test_what_does_not_exceed_chance_is_guessing_or_a_fault(
    right: int, guessing: bool, faulty: bool
) -> None:
    score = summary([case(k, k < right) for k in range(80)]).domains["history"]
    assert (score.at_chance, score.below_chance) == (guessing, faulty)


@pytest.mark.parametrize("right", [20, 80])
def test_a_score_at_chance_or_above_is_no_fault(right: int) -> None:
    score = summary([case(k, k < right) for k in range(80)]).domains["history"]
    assert not score.below_chance
    assert score.samples == ()


def test_what_engines_add_is_averaged_over_those_that_have_it() -> None:
    cases = [
        case(1, True, correct_raw=True, mass=0.5),
        case(2, True, correct_raw=False, mass=1.0),
        case(3, True),
    ]
    score = summary(cases).domains["history"]
    assert (score.accuracy_raw, score.mass) == (0.5, 0.75)
    bare = summary([case(1, True)]).domains["history"]
    assert (bare.accuracy_raw, bare.mass) == (None, None)


def test_the_json_is_what_scripts_rely_on(tmp_path: Path) -> None:
    engine = fake.FakeEngine(troubles={"exam-1": "error", "exam-2": "unparsed"})
    job = prepare_job(
        [fake.task(9, domains=("law", "history"))], EvalSettings("fakes"), engine.info
    )
    run = open_run(job, engine.info, RunStore(tmp_path))
    execute_run(job, engine, run, lambda _: None)
    data = json.loads(json.dumps(evaluate_run(run).as_json()))
    assert {"run", "model", "suite", "domains", "overall", "seconds", "forward_tokens"} <= set(data)
    assert list(data["domains"]) == ["history", "law"]
    fields = {"n", "correct", "accuracy", "interval", "chance"}
    fields |= {"unparsed", "truncated", "errors", "verdict"}
    for part in (*data["domains"].values(), data["overall"]):
        assert fields <= set(part)
        low, high = part["interval"]
        assert 0 <= low <= part["accuracy"] <= high <= 1
        assert part["verdict"] in {"strong", "weak", "uncertain"}
    assert data["run"] == run.folder.name
    assert data["domains"]["history"]["errors"] == 1
    assert data["domains"]["law"]["unparsed"] == 1
    assert data["overall"]["n"] == 8
    assert data["forward_tokens"] == engine.forward_tokens
