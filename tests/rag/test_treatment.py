from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from domainlift.types import Question
from rag.base import Chunk, Hit
from rag.retrieval_gate import OPEN, SHUT, Gate
from rag.treatment import Budget, QuestionSignals, as_passage, query, treat_with_passages

NOTHING = QuestionSignals({}, {})


class Shelf:
    """Finds the same chunks for every question, and remembers what it was asked."""

    def __init__(self, *cosines: float) -> None:
        self.hits = [
            Hit(Chunk(f"fact number {n}", "b.md", f"Book > {n}"), n, 1 / n, cosine, None)
            for n, cosine in enumerate(cosines, 1)
        ]
        self.asked: list[list[str]] = []

    def search(self, queries: Sequence[str], k: int) -> list[list[Hit]]:
        self.asked.append(list(queries))
        return [self.hits[:k] for _ in queries]


def question(name: str, domain: str = "biology") -> Question:
    return Question(name, domain, "t", f"Text {name}?", ("yes", "no"), 0)


def words(text: str) -> int:
    return len(text.split())


def test_retrieval_gate_stand_best_first_within_the_budget() -> None:
    shelf: Any = Shelf(0.9, 0.8, 0.7, 0.6)
    treated = treat_with_passages(
        [question("a")], {"biology": shelf}, {}, Budget(words, k=3), NOTHING
    )[0]
    assert [p.source for p in treated.passages] == ["Book > 1", "Book > 2", "Book > 3"]
    assert treated.retrieved == treated.passages
    assert treated.reason == "rag"
    tight = treat_with_passages(
        [question("a")], {"biology": shelf}, {}, Budget(words, tokens=13), NOTHING
    )[0]
    assert [p.source for p in tight.passages] == ["Book > 1", "Book > 2"]
    assert len(tight.retrieved) == 3


def test_each_domain_is_searched_once_and_order_is_kept() -> None:
    biology: Any = Shelf(0.9)
    law: Any = Shelf(0.5)
    asked = [question("a"), question("b", "law"), question("c"), question("d", "art")]
    treated = treat_with_passages(
        asked, {"biology": biology, "law": law}, {}, Budget(words), NOTHING
    )
    assert biology.asked == [["Text a?", "Text c?"]]
    assert law.asked == [["Text b?"]]
    assert [t.retrieved[0].dense if t.retrieved else None for t in treated] == [0.9, 0.5, 0.9, None]
    assert treated[3].reason == "base: no knowledge base"


@pytest.mark.parametrize(
    ("gate", "confidence", "reason"),
    [
        (OPEN, 1.0, "rag"),
        (SHUT, 0.0, "base: the gate is shut"),
        (Gate(0.95), 0.0, "base: best passage at 0.900, below 0.950"),
        (Gate(0.5, 0.6), 0.7, "base: sure without passages"),
        (Gate(0.5, 0.6), 0.5, "rag"),
    ],
)
def test_a_gate_keeps_passages_out_and_says_why(gate: Gate, confidence: float, reason: str) -> None:
    shelf: Any = Shelf(0.9)
    known = QuestionSignals({"a": confidence}, {"a": "chunk-7"})
    made = treat_with_passages(
        [question("a")], {"biology": shelf}, {"biology": gate}, Budget(words), known
    )[0]
    assert made.reason == reason
    assert bool(made.passages) == (reason == "rag")
    # What was found is recorded either way.
    assert made.retrieved
    assert made.leak == "chunk-7"


def test_a_gate_may_let_in_fewer_than_were_found() -> None:
    shelf: Any = Shelf(0.9, 0.8, 0.7)
    gate = Gate(0.5, k=1)
    made = treat_with_passages(
        [question("a")], {"biology": shelf}, {"biology": gate}, Budget(words), NOTHING
    )[0]
    assert (len(made.passages), len(made.retrieved)) == (1, 3)


def test_an_empty_shelf_leaves_the_question_alone() -> None:
    shelf: Any = Shelf()
    made = treat_with_passages([question("a")], {"biology": shelf}, {}, Budget(words), NOTHING)[0]
    assert (made.passages, made.reason) == ((), "base: nothing found")


def test_options_are_searched_for_only_on_request() -> None:
    assert query(question("a")) == "Text a?"
    assert query(question("a"), options=True) == "Text a?\nyes\nno"


def test_a_passage_is_one_line_named_by_its_heading_or_its_file() -> None:
    lines = as_passage(Hit(Chunk("a\n\n  b", "x/notes.md#3"), 1, 0.5, 0.123456, 2.0))
    assert (lines.text, lines.source, lines.place) == ("a b", "notes", "x/notes.md#3")
    assert lines.dense == 0.1235
