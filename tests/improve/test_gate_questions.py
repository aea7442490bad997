"""Questions for gates where there are no validation questions, and gates without any."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from domainlift.types import Question
from improve.gate_questions import document_questions, foreign_threshold
from knowledge_bases.domains import load_domains
from rag.base import Chunk, Hit
from rag.retrieval_gate import DOCUMENTS, RETRIEVAL, TRAIN, Gate
from reports.run_result import _gate

FACTS = (
    "The Velmar pump runs on three litres of amber oil every week.",
    "The Hollin rose is pruned in the second week of November.",
    "Visitors of the north wing must wear felt slippers over their shoes.",
    "The old telescope of the roof is aimed at the star Vega in winter.",
    "The furnace of the workshop burns dried peat from the moor.",
    "The night guard of the north wing rings the copper bell at four.",
)
CHUNKS = [Chunk(" ".join(FACTS[n : n + 3]), f"facts-{n}.md") for n in (0, 3)]


def asked(closed: bool) -> list[Question]:
    return document_questions("institute", CHUNKS, closed=closed)


def test_every_sentence_of_a_small_knowledge_base_is_asked_for_once() -> None:
    found = asked(closed=True)
    assert len(found) == len({q.id for q in found}) == len(FACTS)
    for question in found:
        assert question.domain == "institute"
        assert len(set(question.options)) == 4
        assert isinstance(question.answer, int)
        blanked = question.text.removeprefix("Which word is missing? ")
        word = question.options[question.answer]
        assert blanked.replace("____", word).lower() in {fact.lower() for fact in FACTS}
    assert asked(closed=True) == found


def test_open_questions_ask_for_the_word() -> None:
    found = asked(closed=False)
    assert len(found) == len(FACTS)
    assert all(isinstance(q.answer, str) and q.answer and not q.options for q in found)


def test_too_few_words_make_no_question_with_options() -> None:
    assert document_questions("institute", [Chunk(FACTS[0], "a.md")], closed=True) == []
    assert document_questions("institute", [], closed=False) == []


def test_the_threshold_of_retrieval_is_one_that_foreign_questions_stay_below() -> None:
    seen: list[str] = []

    def search(texts: list[str], k: int) -> list[list[Hit]]:
        seen.extend(texts)
        cosines = [n / len(texts) for n in range(len(texts))]
        return [[Hit(CHUNKS[0], 1, 1.0, dense=cosine)] for cosine in cosines]

    retriever: Any = SimpleNamespace(search=search)
    least = foreign_threshold("biology", retriever, load_domains(None))
    assert len(seen) > 100
    assert least == pytest.approx(0.95, abs=0.01)


@pytest.mark.parametrize(
    ("gate", "said"),
    [
        (Gate(0.2, n=20, n_opened=19, gains=9, basis=DOCUMENTS), "20 questions made of the doc"),
        (Gate(0.2, n=20, n_opened=19, gains=9, basis=TRAIN), "on 20 training questions it let"),
        (Gate(0.25, basis=RETRIEVAL), "it is not calibrated"),
        (Gate(float("inf"), n=15, basis=DOCUMENTS), "not shown to help on 15 questions made"),
    ],
)
def test_the_view_says_on_what_a_gate_was_calibrated(gate: Gate, said: str) -> None:
    assert said in _gate(gate)
