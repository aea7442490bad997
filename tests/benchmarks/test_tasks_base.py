from __future__ import annotations

from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from benchmarks.tasks.base import Example, data_digest, with_ids
from domainlift.types import Question

DRAFT = Question("", "biology", "exam", "Is it alive?", ("yes", "no"), 0)
TEXTS = st.text(max_size=4)


@given(st.lists(TEXTS, max_size=12))
def test_ids_are_distinct_even_where_questions_are_not(texts: list[str]) -> None:
    questions = with_ids("exam", [replace(DRAFT, text=text) for text in texts])
    assert len({question.id for question in questions}) == len(texts)
    assert [question.text for question in questions] == texts


@given(TEXTS, TEXTS)
def test_a_question_keeps_its_id_whatever_stands_around_it(before: str, after: str) -> None:
    alone = with_ids("exam", [DRAFT])[0]
    among = [replace(DRAFT, text=f"{before}?"), DRAFT, replace(DRAFT, text=f"{after}!")]
    assert alone.id in {question.id for question in with_ids("exam", among)}


def test_a_given_id_stays() -> None:
    assert with_ids("exam", [replace(DRAFT, id="mine")])[0].id == "mine"


def test_the_digest_sees_all_that_a_model_is_shown_or_marked_by() -> None:
    question = with_ids("exam", [DRAFT])[0]
    variants = [
        ([question], []),
        ([replace(question, id="other")], []),
        ([replace(question, text="Is it dead?")], []),
        ([replace(question, options=("yes", "maybe"))], []),
        ([replace(question, answer=1)], []),
        ([question, question], []),
        ([question], [Example(question)]),
        ([question], [Example(question, reply="It moves. #### yes")]),
        ([], [Example(question)]),
    ]
    digests = [data_digest(questions, examples) for questions, examples in variants]
    assert len(set(digests)) == len(variants)
    assert data_digest([question]) == digests[0]


def test_the_digest_takes_any_text() -> None:
    assert data_digest([replace(DRAFT, text="\ud800")])
