from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.prompts import passage_block
from domainlift.types import Passage
from finetune.synthetic.grounding import (
    NONE,
    OTHER,
    OWN,
    GroundingLimits,
    PieceLogprobs,
    continuation_of,
    parts_of,
    text_fault,
    ungrounded,
)
from finetune.synthetic.prompts import Excerpt, GeneratedText

TEXT = (
    "In 1856 Gregor Mendel began to cross pea plants in Brno. He grew about 28,000 plants over "
    "eight years, and found that traits are inherited in fixed ratios of three to one."
)
MENDEL = Excerpt(Passage(TEXT, "Genetics > Mendel", "m1", "bio.md#Mendel"))
ENTRY = "rewrite-entry"


def said(text: str, kind: str = ENTRY, question: str = "", *, whole: bool = True) -> GeneratedText:
    return GeneratedText(kind, text, question, whole)


def asked(question: str, answer: str) -> GeneratedText:
    return GeneratedText("questions", answer, question)


@pytest.mark.parametrize(
    ("piece", "reason"),
    [
        (said("Crossing peas, Mendel saw traits pass on in ratios of 3 to 1, from 1856 on."), ""),
        (said("Over 8 years some 28000 peas were grown in Brno by Mendel."), ""),
        (said("1. Mendel crossed peas.\n2. The peas grew in Brno."), ""),
        (said("Student: Who crossed peas?\nTeacher: Mendel did so in Brno."), ""),
        (said(" \n"), "empty"),
        (said("Mendel crossed peas and", whole=False), "cut off"),
        (said("Yes.", "questions"), "no question with an answer"),
        (asked("Who?", "Mendel"), "no question with an answer"),
        (said("Mendel crossed \ufffd\ufffd peas."), "not printable"),
        (said("Mendel.\n</passages>\nassistant"), "marks of the prompt"),
        (said("Mendel crossed peas.\nQuestion: Who did?"), "marks of the prompt"),
        (said("Peas."), "too short"),
        (said("peas and peas and " * 10), "repeats itself"),
        (said("孟德尔在布尔诺杂交豌豆植物"), "too short"),
        (said("Mendel 孟德尔 在布 尔诺杂交豌 豆植物"), "in another script"),
        (said("The passage says that Mendel crossed peas."), "speaks of the passage"),
        (said("As an AI, I cannot say who crossed peas."), "speaks of the passage"),
        (said(TEXT), "copied"),
        (said(f"- {TEXT}", "rewrite-notes"), "copied"),
        (asked("Did Gregor Mendel cross peas?", "Gregor Mendel"), "the question holds the answer"),
        (said("Mendel began to cross his peas in 1857."), "a number that the passage has not"),
        (asked("How many years did it take?", "9 years"), "a number that the passage has not"),
        (said("Peas were crossed in Vienna by Mendel."), "a name that the passage has not"),
        (
            asked("Which monk, before Darwin, crossed peas?", "Mendel"),
            "a name that the passage has not",
        ),
        (asked("Where did Mendel cross peas?", "in Brno"), ""),
    ],
)
def test_what_the_words_of_a_piece_rule_out(piece: GeneratedText, reason: str) -> None:
    assert text_fault(piece, MENDEL) == reason


def test_where_nouns_have_capitals_they_are_no_names() -> None:
    text = (
        "Im Winter werden Rosen im Garten vor dem Austrieb der Knospen mit der Schere geschnitten."
    )
    german = Excerpt(Passage(text, "Rosen"))
    assert (
        text_fault(said("Vor dem Austrieb schneidet man im Winter mit Werkzeug die Rosen."), german)
        == ""
    )


@given(st.text())
def test_no_text_is_too_strange_to_be_judged(text: str) -> None:
    for piece in (said(text), said(text, "implications"), asked(text, text)):
        reason = text_fault(piece, MENDEL)
        assert reason == text_fault(piece, MENDEL)
        assert reason or parts_of(piece)


# --- by log-probabilities


def reading(*logprobs: float, tokens: int = 10, greedy: bool = False) -> PieceLogprobs:
    return PieceLogprobs(logprobs, (tokens,) * len(logprobs), (greedy,) * len(logprobs))


@pytest.mark.parametrize(
    ("own", "none", "other", "reason"),
    [
        ((-10, -12), (-20, -22), (-19, -23), ""),
        ((-10, -12), (-12, -14), (-19, -23), "the passage does not make it likelier"),
        ((-10, -12), (-20, -22), (-10, -13), "the passage does not make it likelier"),
        ((-20, -12), (-19, -40), (-30, -40), "a sentence that the passage does not make likelier"),
    ],
)
def test_a_text_must_gain_by_its_passage(
    own: tuple[float, ...], none: tuple[float, ...], other: tuple[float, ...], reason: str
) -> None:
    readings = {OWN: reading(*own), NONE: reading(*none), OTHER: reading(*other)}
    assert ungrounded(said("One. Two."), readings) == reason


@pytest.mark.parametrize(
    ("own", "greedy", "none", "reason"),
    [
        (-1.0, True, -6.0, ""),
        (-1.0, False, -6.0, ""),  # 0.1 nats per token: as good as certain
        (-9.0, False, -16.0, "the model would say something else"),
        (-9.0, True, -16.0, ""),
        (-1.0, True, -1.5, "the passage does not make it likelier"),
    ],
)
def test_an_answer_must_be_likely_and_only_with_its_passage(
    own: float, greedy: bool, none: float, reason: str
) -> None:
    readings = {OWN: reading(own, greedy=greedy), NONE: reading(none)}
    assert ungrounded(asked("Where did he live?", "in Brno"), readings) == reason


@pytest.mark.parametrize("settings", [(), (OWN,), (NONE, OTHER)])
def test_what_was_not_measured_is_not_kept(settings: tuple[str, ...]) -> None:
    readings = {setting: reading(-1.0) for setting in settings}
    assert ungrounded(said("One."), readings) == "not measured"


@given(
    st.lists(st.tuples(st.floats(-50, 0), st.floats(-50, 0)), min_size=1, max_size=6),
    st.floats(0, 20),
)
def test_more_support_never_hurts(pairs: list[tuple[float, float]], more: float) -> None:
    own, none = zip(*pairs, strict=True)
    before = ungrounded(said("x"), {OWN: reading(*own), NONE: reading(*none)})
    less = tuple(value - more for value in none)
    after = ungrounded(said("x"), {OWN: reading(*own), NONE: reading(*less)})
    assert before or not after


def test_limits_can_be_set() -> None:
    readings = {OWN: reading(-10.0), NONE: reading(-12.0)}
    assert ungrounded(said("x"), readings, GroundingLimits(gain=0.1)) == ""
    assert ungrounded(said("x"), readings, GroundingLimits(gain=math.inf)) != ""


def test_a_piece_is_read_after_its_title_or_question() -> None:
    block = passage_block([MENDEL.passage])
    assert continuation_of(said("x"), MENDEL, [MENDEL.passage]) == f"{block}Mendel:"
    question = asked("Where did he live?", "Brno")
    assert continuation_of(question, MENDEL, []) == "Question: Where did he live?\nAnswer:"
    assert parts_of(question) == ("Brno",)
    assert parts_of(said("- One is. Two are.\nTeacher: Three.")) == (
        "One is.",
        "Two are.",
        "Three.",
    )
