from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from benchmarks.treatments.plan import ORACLE, constant_policy, plan_policy, random_policy
from domainlift.types import Question
from ensemble.plan import DomainTreatment
from ensemble.router.decision import RouteDecision
from ensemble.treatment import PlanResources, treat_by_plan
from rag.base import Chunk, Hit
from rag.retrieval_gate import OPEN, SHUT
from rag.search.retrieval import Retrieval
from rag.treatment import Budget, QuestionSignals

QUESTIONS = [Question(f"q{n}", "biology", "t", f"question {n}", ("x", "y"), 0) for n in range(4)]
NOTHING = QuestionSignals({}, {})


@dataclass
class Shelf:
    """Finds the same passage for every question."""

    name: str
    settings: Retrieval = field(default_factory=Retrieval)

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        return [[Hit(Chunk(f"{self.name} text", self.name), 1, 0.9, 0.8)] for _ in queries]


def means(*shelves: str, **adapters: str) -> PlanResources:
    found: Any = {name: Shelf(name) for name in shelves}
    return PlanResources(found, adapters, Budget(lambda text: len(text.split())))


def sent(*domains: str | None) -> list[RouteDecision]:
    return [RouteDecision(domain, "keywords", (("cell", 1.0),)) for domain in domains]


def test_each_question_gets_what_the_plan_has_for_its_route() -> None:
    cares = {
        "biology": DomainTreatment("rag+lora", knowledge_base="g", adapter="biology/v0001"),
        "history": DomainTreatment("rag", knowledge_base="g"),
        "law": DomainTreatment(),
    }
    made = treat_by_plan(
        QUESTIONS,
        sent("biology", "history", "law", None),
        cares,
        means("biology", "history", biology="bio"),
        NOTHING,
    )
    assert [t.adapter for t in made] == ["bio", None, None, None]
    assert [[p.place for p in t.passages] for t in made] == [["biology"], ["history"], [], []]
    assert [t.reason for t in made] == [
        "rag, adapter bio",
        "rag",
        "base: the plan has nothing for law",
        "base: no route",
    ]
    assert [t.route for t in made] == ["biology", "history", "law", ""]
    assert made[0].matched == ("cell",)


def test_a_shut_gate_keeps_passages_out_and_the_adapter_in() -> None:
    entry = DomainTreatment("rag+lora", knowledge_base="g", gate=SHUT, adapter="biology/v0001")
    made = treat_by_plan(
        QUESTIONS[:1], sent("biology"), {"biology": entry}, means("biology", biology="bio"), NOTHING
    )
    assert made[0].passages == ()
    assert made[0].adapter == "bio"
    assert len(made[0].retrieved) == 1


def test_the_gate_may_ask_how_sure_the_model_is() -> None:
    entry = DomainTreatment("rag", knowledge_base="g", gate=replace(OPEN, confidence=0.5))
    made = treat_by_plan(
        QUESTIONS[:2],
        sent("biology", "biology"),
        {"biology": entry},
        means("biology"),
        QuestionSignals({"q0": 0.9, "q1": 0.4}, {}),
    )
    assert [len(t.passages) for t in made] == [0, 1]


@pytest.mark.parametrize("other", ["name", "entry", "known"])
def test_the_digest_changes_with_what_may_change_a_treatment(other: str) -> None:
    entry = DomainTreatment("lora", adapter="biology/v0001", adapter_digest="a")
    first = plan_policy("x", ORACLE, {"biology": entry}, means(biology="bio"), NOTHING)
    name = "y" if other == "name" else "x"
    changed = replace(entry, adapter_digest="b") if other == "entry" else entry
    known = QuestionSignals({"q0": 0.1}, {}) if other == "known" else NOTHING
    second = plan_policy(name, ORACLE, {"biology": changed}, means(biology="bio"), known)
    assert first.digest != second.digest


def test_ways_to_send_a_question() -> None:
    many = [replace(QUESTIONS[0], id=str(n)) for n in range(900)]
    chance = [random_policy(["biology", "history"]).send(question).domain for question in many]
    assert chance == [
        random_policy(["history", "biology"]).send(question).domain for question in many
    ]
    assert all(200 < chance.count(name) < 400 for name in ("biology", "history", None))
    assert ORACLE.send(QUESTIONS[0]).domain == "biology"
    assert constant_policy("law").send(QUESTIONS[0]).domain == "law"


def test_another_route_is_another_treatment() -> None:
    entry = {"biology": DomainTreatment("rag", "g1")}
    routes = (
        ORACLE,
        constant_policy("biology"),
        constant_policy("law"),
        random_policy(["biology"]),
    )
    made = [plan_policy("x", each, entry, means(biology="bio"), NOTHING).digest for each in routes]
    assert len(set(made)) == len(made)
