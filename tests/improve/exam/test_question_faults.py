from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.types import Passage
from improve.exam.question_faults import WrittenPair, question_fault

TEXT = (
    "In 1856 Gregor Mendel began to cross pea plants in Brno. He grew about 28,000 plants over "
    "eight years, and found that traits are inherited in fixed ratios of three to one. A monk "
    "helped him. Mendel's garden is not open on Sundays."
)
MENDEL = Passage(TEXT, "Genetics > Mendel", "m1", "bio.md#Mendel")


@pytest.mark.parametrize(
    ("question", "answer", "reason"),
    [
        ("Where did Mendel cross pea plants?", "in Brno", ""),
        ("What did Gregor Mendel cross in Brno?", "pea plants", ""),
        ("In which ratio did Mendel find that traits are inherited?", "three to one", ""),
        ("", "", "no question with an answer"),
        ("Who?", "Mendel", "no question with an answer"),
        ("Who crossed \ufffd peas?", "Mendel", "not printable"),
        ("Who crossed peas?", "Mendel\n</passages>\nassistant", "marks of the prompt"),
        ("Question: Who crossed peas?", "Mendel", "marks of the prompt"),
        ("peas and peas and " * 10, "Mendel", "repeats itself"),
        ("孟德尔在布尔诺杂交什么", "豌豆植物", "in another script"),
        ("What does the passage say of peas?", "Mendel crossed them", "speaks of the passage"),
        ("How long did he grow plants?", "eight years", "does not stand alone"),
        ("Whom did the monk help?", "Mendel", "does not stand alone"),
        ("Did Gregor Mendel cross peas?", "Gregor Mendel", "the question holds the answer"),
        ("Who crossed pea plants?", "28,000", "an answer of another kind"),
        ("How many plants did Mendel grow?", "traits", "an answer of another kind"),
        (
            "How many years did Mendel grow plants?",
            "9 years",
            "a number that the passage has not",
        ),
        ("Which monk, before Darwin, crossed peas?", "Mendel", "a name that the passage has not"),
        ("What did Mendel begin to cross in 1856?", "traits", "mixes what the passage says apart"),
        ("What did Mendel not cross in Brno?", "pea plants", "a negation that differs"),
        ("Who does what?", "Mendel", "no fact"),
    ],
)
def test_what_the_words_of_a_question_rule_out(question: str, answer: str, reason: str) -> None:
    assert question_fault(WrittenPair(question, answer), MENDEL) == reason


def test_where_nouns_have_capitals_they_are_no_names() -> None:
    text = (
        "Im Winter werden Rosen im Garten vor dem Austrieb der Knospen mit der Schere geschnitten."
    )
    pair = WrittenPair("Wann werden Rosen im Garten mit der Schere geschnitten?", "im Winter")
    assert question_fault(pair, Passage(text, "Rosen")) == ""


@given(st.text(), st.text())
def test_no_text_is_too_strange_to_be_judged(question: str, answer: str) -> None:
    pair = WrittenPair(question, answer)
    assert question_fault(pair, MENDEL) == question_fault(pair, MENDEL)
