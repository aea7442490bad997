from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

from benchmarks.held_out.split import validation_job
from benchmarks.results.pairing import paired_record_changes
from benchmarks.runs.store import Record
from benchmarks.treatments.gate_calibration import (
    calibration_samples,
    confidence,
    contaminated_questions,
)
from benchmarks.treatments.plan import ORACLE, plan_policy
from domainlift.types import Question
from ensemble.plan import DomainTreatment
from ensemble.treatment import PlanResources
from rag.base import Chunk
from rag.retrieval_gate import OPEN, SHUT
from rag.search.retrieval import Retrieval
from rag.treatment import Budget, QuestionSignals
from tests.helpers import fake_engine as fake


def record(name: str, correct: bool | None, domain: str = "history", **more: Any) -> Record:
    return Record(name, domain, "t", "ok" if correct is not None else "error", correct, **more)


def found(*cosines: float | None) -> tuple[dict[str, Any], ...]:
    return tuple({"id": "c", "dense": cosine} for cosine in cosines)


def test_confidence_is_the_share_of_the_chosen_option() -> None:
    records = [
        record("a", True, chosen=0, logprobs=(0.0, 0.0, 0.0, 0.0)),
        record("b", True, chosen=1, logprobs=(-50.0, 0.0)),
        record("c", True, chosen="42"),
    ]
    assert confidence(records) == {"a": 0.25, "b": 1.0}


def test_trials_join_what_was_answered_both_ways() -> None:
    base = [
        record("a", False, chosen=0, logprobs=(0.0, 0.0)),
        record("b", True, chosen=0, logprobs=(0.0, -50.0)),
        record("c", None),
        record("d", True),
        record("e", True),
    ]
    helped = [
        record("a", True, retrieved=found(0.2, 0.9, None)),
        record("b", False, "law", retrieved=found(0.5)),
        record("c", True, retrieved=found(0.5)),
        record("d", None, retrieved=found(0.5)),
        record("e", True, retrieved=found(0.5), leak="chunk"),
        record("f", True, retrieved=found(0.5)),
    ]
    joined = calibration_samples(base, helped)
    assert set(joined) == {"history", "law"}
    only = joined["history"]
    assert [(t.score, t.confidence, t.base, t.helped) for t in only] == [(0.9, 0.5, False, True)]
    assert joined["law"][0].confidence == 1.0


def test_pairs_are_counted_per_domain_and_in_total() -> None:
    questions = {f"exam-{n}": fake.question(n, "law" if n % 2 else "history") for n in range(6)}
    base = [record(f"exam-{n}", n < 3, "law" if n % 2 else "history") for n in range(6)]
    after = [record(f"exam-{n}", n > 0, "law" if n % 2 else "history") for n in range(5)]
    made = paired_record_changes(base, after, questions)
    assert list(made) == ["", "history", "law"]
    assert (made["history"].n, made["history"].gains, made["history"].losses) == (3, 1, 1)
    assert (made["law"].n, made["law"].gains, made["law"].losses) == (2, 1, 0)
    assert made[""].n == 5


NOTHING = QuestionSignals({}, {})
RAG = DomainTreatment("rag", knowledge_base="g1")


def digest(
    treatment: DomainTreatment | None = None,
    signals: QuestionSignals = NOTHING,
    k: int = 3,
    **settings: Any,
) -> str:
    plan = {"history": treatment if treatment is not None else RAG}
    shelf: Any = SimpleNamespace(settings=Retrieval(**settings))
    resources = PlanResources({"history": shelf}, {"history": "x"}, Budget(len, k))
    return plan_policy("rag", ORACLE, plan, resources, signals).digest


def test_whatever_may_change_a_prompt_makes_another_run() -> None:
    digests = [
        digest(),
        digest(replace(RAG, knowledge_base="g2")),
        digest(replace(RAG, gate=SHUT)),
        digest(replace(RAG, treatment="rag+lora", adapter="x", adapter_digest="a")),
        digest(replace(RAG, treatment="rag+lora", adapter="x", adapter_digest="b")),
        digest(k=2),
        digest(depth=50),
        digest(signals=QuestionSignals({"a": 0.5}, {})),
        digest(signals=QuestionSignals({}, {"a": "c"})),
        digest(signals=QuestionSignals({}, {}, options=True)),
    ]
    assert len(set(digests)) == len(digests)
    assert digest(replace(RAG, gate=OPEN)) == digests[0]


def test_validation_asks_in_the_same_way_but_never_what_is_reported(tmp_path: Any) -> None:
    from benchmarks.runs.runner import EvalSettings, prepare_job
    from benchmarks.tasks.registry import load_task
    from engines.base import Mode
    from knowledge_bases.domains import load_domains

    domains = load_domains()
    task = load_task("own:biology", data=None, domains=domains)
    settings = EvalSettings("demo", mode=Mode.CLOZE, limit=5)
    job = prepare_job([task], settings, fake.INFO)
    made = validation_job(job, fake.INFO, None, domains, {"biology"})
    assert made is not None
    assert made.formats == job.formats
    assert len(made.questions) == 83
    reported = {(q.text, q.options) for q in task.questions}
    assert not any((q.text, q.options) in reported for q in made.questions)
    assert {q.split for q in made.questions} == {"validation"}
    assert validation_job(job, fake.INFO, None, domains, {"law"}) is None


_LONG = (
    "Which captain of the old ferry painted the hull in the winter before the company was sold "
    "to the harbour of Brevik?"
)


@pytest.mark.parametrize(
    ("support", "leaks"), [("", 1), ("notes.md", 0), ("other.md", 1)], ids=["none", "own", "other"]
)
def test_a_question_made_of_a_passage_may_stand_there_and_nowhere_else(
    support: str, leaks: int
) -> None:
    chunk = Chunk(f"{_LONG} Ragna Tveit.", "notes.md")
    asked = Question("q", "ferries", "t", _LONG, ("Ragna Tveit", "Emil Hauge"), 0, support=support)
    index = SimpleNamespace(chunks=[chunk], dense=None)
    retriever: Any = SimpleNamespace(encode=lambda texts: None, index=index)
    found = contaminated_questions([asked], {"ferries": retriever})
    assert [leak.question for leak in found] == ["q"] * leaks
