from __future__ import annotations

import math
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scoring.replies.reading import Reading
from benchmarks.scoring.score import Score, per_character, probabilities, score
from benchmarks.scoring.scorer import LETTER, NUMBER, TEXT, Scorer, scorer_of
from domainlift.types import Question
from engines.base import Answer, Mode, Status

CLOSED = Question("q", "history", "exam", "Which?", ("Rome", "Constantinople", "Bern"), 1)


def opened(answer: str) -> Question:
    return Question("q", "reasoning", "gsm8k", "How many?", (), answer)


LOGPROBS = [
    # mode, log-probabilities, correct, chosen, correct raw
    (Mode.LETTER, (-2.0, -1.0, -3.0), True, 1, None),
    (Mode.LETTER, (-1.0, -2.0, -3.0), False, 0, None),
    # -8 over 14 characters is more than -4 over 4.
    (Mode.CLOZE, (-4.0, -8.0, -9.0), True, 1, False),
    (Mode.CLOZE, (-4.0, -3.0, -9.0), True, 1, True),
    (Mode.CLOZE, (-1.0, -14.0, -9.0), False, 0, False),
    # Of equals the first, as the other harness has it.
    (Mode.LETTER, (-1.0, -1.0, -1.0), False, 0, None),
    (Mode.LETTER, (-2.0, -1.0, -1.0), True, 1, None),
    (Mode.CLOZE, (-4.0, -14.0, -4.0), False, 0, False),
]


@pytest.mark.parametrize(("mode", "logprobs", "correct", "chosen", "raw"), LOGPROBS)
def test_the_likeliest_option_is_chosen(
    mode: Mode, logprobs: tuple[float, ...], correct: bool, chosen: int, raw: bool | None
) -> None:
    answer = Answer("q", logprobs=logprobs)
    assert score(CLOSED, answer, mode) == Score(Status.OK, correct, chosen, raw)


REPLIES = [
    ("The answer is B.", Score(Status.OK, True, 1)),
    ("C", Score(Status.OK, False, 2)),
    ("Constantinople", Score(Status.OK, True, 1)),
    ("Who knows?", Score(Status.UNPARSED, False)),
    ("", Score(Status.UNPARSED, False)),
]


@pytest.mark.parametrize(("reply", "scored"), REPLIES)
def test_a_reply_names_an_option_or_is_unparsed(reply: str, scored: Score) -> None:
    assert score(CLOSED, Answer("q", text=reply), Mode.GENERATE) == scored
    # An engine that gives no log-probabilities answers the other modes with text.
    assert score(CLOSED, Answer("q", text=reply), Mode.LETTER) == scored


OPEN = [
    ("18", "#### 18", Score(Status.OK, True, "18")),
    ("18", "It costs $18.00.", Score(Status.OK, True, "18")),
    ("1,800", "The answer is 1800", Score(Status.OK, True, "1800")),
    ("18", "#### 81", Score(Status.OK, False, "81")),
    ("18", "I do not know", Score(Status.UNPARSED, False)),
    ("blue whale", " The  *Blue*  Whale. ", Score(Status.OK, True, "The Blue Whale.")),
    ("blue whale", "whale", Score(Status.OK, False, "whale")),
    ("blue whale", "  ", Score(Status.UNPARSED, False)),
    # A list of numbers is a text, not the number that its digits would make.
    ("1, 2, 3", "1, 2, 3", Score(Status.OK, True, "1, 2, 3")),
    ("1/3", "\\frac{2}{6}", Score(Status.OK, True, "1/3")),
]


@pytest.mark.parametrize(("answer", "reply", "scored"), OPEN)
def test_an_open_answer_is_compared_as_number_or_text(
    answer: str, reply: str, scored: Score
) -> None:
    assert score(opened(answer), Answer("q", text=reply), Mode.GENERATE) == scored


def test_the_form_of_the_reference_chooses_the_scorer() -> None:
    questions = (CLOSED, opened("1,800"), opened("blue whale"))
    assert [scorer_of(question) for question in questions] == [LETTER, NUMBER, TEXT]


def test_a_task_may_choose_another_scorer() -> None:
    title = opened("1984")
    assert score(title, Answer("q", text="1984.0"), Mode.GENERATE).correct
    assert not score(title, Answer("q", text="In 1984"), Mode.GENERATE, TEXT).correct
    last = Scorer(
        "last word",
        lambda _, reply: Reading(reply.split()[-1], "last word"),
        lambda question, found: found.answer == question.answer,
    )
    scored = score(title, Answer("q", text="Orwell wrote 1984"), Mode.GENERATE, last)
    assert (scored, scored.extracted_by) == (Score(Status.OK, True, "1984"), "last word")


def test_log_probabilities_are_scored_without_it() -> None:
    answer = Answer("q", logprobs=(-2.0, -1.0, -3.0))
    assert score(CLOSED, answer, Mode.LETTER, NUMBER) == Score(Status.OK, True, 1)


def test_no_text_at_all_is_unparsed() -> None:
    assert score(opened("18"), Answer("q"), Mode.GENERATE) == Score(Status.UNPARSED, False)


def test_a_reply_that_the_limit_cut_off_has_no_answer_whatever_stands_in_it() -> None:
    cut = Answer("q", text="The answer is B. But wait, if", cut_off=True)
    assert score(CLOSED, cut, Mode.GENERATE) == Score(Status.CUT_OFF, False)
    assert score(opened("11"), replace(cut, text="11"), Mode.GENERATE).status is Status.CUT_OFF
    # Where letters are read from text, a few words are all that was asked for.
    assert score(CLOSED, cut, Mode.LETTER) == Score(Status.OK, True, 1)
    assert score(CLOSED, replace(cut, text="Let me"), Mode.LETTER).status is Status.CUT_OFF


@pytest.mark.parametrize("status", [Status.TRUNCATED, Status.ERROR])
def test_what_was_not_answered_is_neither_right_nor_wrong(status: Status) -> None:
    answer = Answer("q", status, logprobs=(-1.0, 0.0, -1.0), text="B", error="x")
    assert score(CLOSED, answer, Mode.LETTER) == Score(status, None)


def test_where_no_letter_was_among_the_alternatives_none_is_chosen() -> None:
    some = Answer("q", logprobs=(-5.0, -1.0, -5.0), n_bounded=2)
    assert score(CLOSED, some, Mode.LETTER) == Score(Status.OK, True, 1)
    none = Answer("q", logprobs=(-5.0, -5.0, -5.0), n_bounded=3)
    assert score(CLOSED, none, Mode.LETTER) == Score(Status.UNPARSED, False)


def test_lengths_are_counted_in_characters_without_the_blanks_around() -> None:
    question = Question("q", "d", "t", "?", (" grün ", "地", " "), 0)
    assert per_character(question, (-4.0, -4.0, -4.0)) == [-1.0, -4.0, -4.0]


@given(st.lists(st.floats(-1e4, 0), min_size=1, max_size=10))
def test_shares_are_those_of_a_whole(logprobs: list[float]) -> None:
    shares = probabilities(logprobs)
    assert math.isclose(sum(shares), 1)
    assert all(0 <= share <= 1 for share in shares)
    assert shares[logprobs.index(max(logprobs))] == max(shares)
