from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.prompts import passage_block
from domainlift.types import Passage
from finetune.synthetic.grounding import (
    NONE,
    OTHER,
    OWN,
    SETTINGS,
    SHUFFLED,
    GroundingLimits,
    PieceLogprob,
    continuation_of,
    shuffled,
    ungrounded,
)
from finetune.synthetic.prompts import Excerpt, GeneratedText

MENDEL = Excerpt(
    Passage("In 1856 Mendel began to cross peas.", "Genetics > Mendel", "m1", "bio.md#Mendel")
)
STATEMENT = GeneratedText("rewrite-entry", "x")
LIMITS = GroundingLimits(gain=0.5, order=0.2, likely=-2.0)


def readings(*means: float) -> dict[str, PieceLogprob]:
    """What a piece of ten tokens gets in each setting."""
    return {
        setting: PieceLogprob(10 * mean, 10) for setting, mean in zip(SETTINGS, means, strict=False)
    }


@pytest.mark.parametrize(
    ("own", "none", "other", "order", "reason"),
    [
        (-1.0, -3.0, -2.5, -1.5, ""),
        (-1.0, -1.4, -2.5, -1.5, "the passage does not make it likelier"),
        (-1.0, -3.0, -1.4, -1.5, "the passage does not make it likelier"),
        (-1.0, -3.0, -2.5, -1.1, "the words of the passage in any order make it as likely"),
        (-2.1, -9.0, -9.0, -9.0, "the model would say something else"),
    ],
)
def test_a_piece_must_be_likely_and_only_with_its_passage(
    own: float, none: float, other: float, order: float, reason: str
) -> None:
    assert ungrounded(STATEMENT, readings(own, none, other, order), LIMITS) == reason


def test_an_answer_need_not_be_likely() -> None:
    had = readings(-2.1, -9.0, -9.0, -9.0)
    assert ungrounded(GeneratedText("questions", "x", "Who is it?"), had, LIMITS) == ""


@pytest.mark.parametrize("missing", [OWN, SHUFFLED])
def test_what_was_not_measured_is_not_kept(missing: str) -> None:
    had = readings(-1.0, -3.0, -3.0, -3.0)
    assert (
        ungrounded(STATEMENT, {s: r for s, r in had.items() if s != missing}, LIMITS)
        == "not measured"
    )


def test_a_single_passage_has_no_other_one() -> None:
    had = readings(-1.0, -3.0, -3.0, -3.0)
    assert ungrounded(STATEMENT, {s: r for s, r in had.items() if s != OTHER}, LIMITS) == ""
    assert ungrounded(STATEMENT, {s: had[s] for s in (OWN, SHUFFLED)}, LIMITS) == "not measured"


@given(st.tuples(*[st.floats(-50, 0)] * 4), st.floats(0, 20))
def test_more_support_never_hurts(means: tuple[float, ...], more: float) -> None:
    before = readings(*means)
    raised = replace(before[OWN], logprob=before[OWN].logprob + more)
    assert ungrounded(STATEMENT, before, LIMITS) or not ungrounded(
        STATEMENT, {**before, OWN: raised}, LIMITS
    )


def test_a_piece_is_read_after_its_title_or_question() -> None:
    block = passage_block([MENDEL.passage])
    assert continuation_of(STATEMENT, MENDEL, [MENDEL.passage]) == f"{block}Mendel:"
    question = GeneratedText("questions", "Brno", "Where did he live?")
    assert continuation_of(question, MENDEL, []) == "Question: Where did he live?\nAnswer:"


def test_a_shuffled_passage_has_the_same_words() -> None:
    other = shuffled(MENDEL.passage)
    assert sorted(other.text.split()) == sorted(MENDEL.passage.text.split())
    assert other.text != MENDEL.passage.text
    assert other == replace(shuffled(MENDEL.passage), text=other.text)
    assert NONE in SETTINGS
