"""Replies as models write them, and what must be read out of them."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.scoring import answer_extraction as parsing

CITIES = ("Paris", "Rome", "Berlin", "Oslo")

LETTERS = [
    # the letter alone
    ("B", 1),
    (" B", 1),
    ("B\n", 1),
    ("b", 1),
    ("(b)", 1),
    ("(B)", 1),
    ("[B]", 1),
    ("B.", 1),
    ("B)", 1),
    ("**B**", 1),
    ("**B.**", 1),
    ("`B`", 1),
    ("$B$", 1),
    ('"B"', 1),
    ("✅ B", 1),
    ("Option B", 1),
    ("option b", 1),
    ("A", 0),
    ("a", 0),
    ("A!", 0),
    # the letter with its text
    ("B) Rome", 1),
    ("B. Rome", 1),
    ("B: Rome", 1),
    ("B - Rome", 1),
    ("B – Rome", 1),
    ("B, because it lies on the Tiber", 1),
    ("(B) Rome", 1),
    ("b) rome", 1),
    ("b. rome", 1),
    ("**B) Rome**", 1),
    ("- B) Rome", 1),
    ("> B) Rome", 1),
    ("A. Paris", 0),
    ("B\n\nRome lies on the Tiber.", 1),
    ("B. Rome\nBecause it lies on the Tiber.", 1),
    # said in a sentence
    ("The correct answer is (B).", 1),
    ("The correct answer is B", 1),
    ("The correct answer is **B**.", 1),
    ("The correct answer is: B", 1),
    ("The correct answer is:\n\nB) Rome", 1),
    ("The correct answer is **B) Rome**.", 1),
    ("The answer is A.", 0),
    ("The answer is A because it is the largest", 0),
    ("The answer is (A) Paris", 0),
    ("The answer is b.", 1),
    ("the answer is a", 0),
    ("The answer is option B.", 1),
    ("The answer is the option B.", 1),
    ("The answer would be C", 2),
    ("The best answer is therefore D.", 3),
    ("The answer to this question is C.", 2),
    ("The correct option is C", 2),
    ("The right choice is C.", 2),
    ("Answer: C", 2),
    ("answer: c", 2),
    ("ANSWER: C", 2),
    ("**Answer:** C", 2),
    ("**Answer: C**", 2),
    ("## Answer\n\nC", 2),
    ("Answer: (C) Berlin", 2),
    ("Final answer: C", 2),
    ("Final Answer:\nC", 2),
    ("Answer C", 2),
    ('{"answer": "C"}', 2),
    ("<answer>C</answer>", 2),
    ("<answer> (c) </answer>", 2),
    ("I think it's D because of the fjord", 3),
    ("I think it’s D because of the fjord", 3),
    ("I would choose (D).", 3),
    ("I'd go with D", 3),
    ("I believe the answer is D, not A.", 3),
    ("(D) is the correct answer.", 3),
    ("Option D is correct.", 3),
    ("D is correct", 3),
    ("A is correct", 0),
    # LaTeX
    ("\\boxed{A}", 0),
    ("$\\boxed{A}$", 0),
    ("The answer is $\\boxed{A}$.", 0),
    ("\\boxed{\\text{A}}", 0),
    ("\\boxed{\\text{(A)}}", 0),
    ("\\boxed{A. Paris}", 0),
    ("So \\[\\boxed{C}\\] and not A.", 2),
    # reasoning first
    ("Paris is in France. Rome is in Italy. So the answer is B.", 1),
    ("Let us see.\n\nThe Tiber flows through Rome.\n\n**B**", 1),
    ("The answer is A. No, wait: the answer is B.", 1),
    ("A. Paris: no.\nB. Rome: yes.\nSo the correct answer is B.", 1),
    ("A. First, Paris is no port. The answer is D.", 3),
    ("Option A is wrong. Option B is correct.", 1),
    ("The answer is B, and A is wrong.", 1),
    ("The answer is not A. The answer is B.", 1),
    # the option's text
    ("Rome", 1),
    ("rome.", 1),
    ("**Rome**", 1),
    ("It is Rome.", 1),
    ("The capital of Italy is Rome, of course.", 1),
    ("Rome\nParis is the capital of France.", 1),
    ("Rome Rome Rome", 1),
    ("Answer: Rome", 1),
    # what says nothing, or two things
    ("", None),
    ("   \n\t ", None),
    ("?", None),
    ("🤷", None),
    ("A or B", None),
    ("A/B", None),
    ("Either A or B", None),
    ("Both A and B", None),
    ("A, B and D", None),
    ("A, B, or C?", None),
    ("The answer is A or B.", None),
    ("The answer is either A or B.", None),
    ("The answer is A/B.", None),
    ("The answer is A, B and C.", None),
    ("(A) or (B) is correct", None),
    ("I would say A or C.", None),
    ("None of the above", None),
    ("All of the above.", None),
    ("As a language model, I cannot answer", None),
    ("As a language model I can't answer A or B", None),
    ("A cat sat on the mat", None),
    ("Answer: A small city by the sea", None),
    ("The answer is A matter of taste", None),
    ("the answer is a matter of taste", None),
    ("I am not sure.", None),
    ("I don't know", None),
    ("D-Day was in 1944", None),
    ("B2B", None),
    ("C# is a language", None),
    ("A.I. is not allowed to say", None),
    ("E", None),
    ("The answer is E.", None),
    ("It is Paris or Rome", None),
    ("It is not Paris", None),
    ("It isn't Paris", None),
    ("Parisian", None),
    ("A. Paris\nB. Rome\nC. Berlin\nD. Oslo", None),
]


@pytest.mark.parametrize(("reply", "meant"), LETTERS)
def test_a_letter_is_read_or_the_reply_is_unparsed(reply: str, meant: int | None) -> None:
    assert parsing.extract_letter(reply, CITIES) == meant


TEXTS = [
    ("Answer: A dog", ("A cat", "A dog"), 1),
    ("A dog", ("A cat", "A dog"), 1),
    ("None of the above", ("one", "two", "None of the above"), 2),
    ("Paris, Texas", ("Paris", "Paris, Texas"), 1),
    ("It is Paris, Texas", ("Paris", "Paris, Texas"), 1),
    ("It is 3.5", ("3", "3.5"), 1),
    ("yes", ("Yes", "yes.", "no"), None),
    ("C++", ("Java", "C++"), 1),
    ("x", ("...", "?"), None),
    ("", ("...", "?"), None),
    ("B", ("x", "y"), 1),
    ("anything", (), None),
    ("J", tuple("qwertzuiop"), 9),
    ("I think so", tuple("1234567890"), None),
    ("I", tuple("1234567890"), 8),
]


@pytest.mark.parametrize(("reply", "options", "meant"), TEXTS)
def test_an_option_is_known_by_its_text(
    reply: str, options: tuple[str, ...], meant: int | None
) -> None:
    assert parsing.extract_letter(reply, options) == meant


NUMBERS = [
    ("42", "42"),
    ("#### 1,234", "1234"),
    ("####42", "42"),
    ("#### -5", "-5"),
    ("16 - 3 = 13, so he sells 13.\n#### 26", "26"),
    ("#### 26\nOr 27, perhaps", "26"),
    ("$5.00", "5"),
    ("$1,200.50", "1200.5"),
    ("€7", "7"),
    ("-3", "-3"),
    ("−3", "-3"),
    ("+3", "3"),
    ("3/4", "0.75"),
    ("1/3", None),
    ("1/0", None),
    (".5", "0.5"),
    ("0.50", "0.5"),
    ("007", "7"),
    ("-0.0", "0"),
    ("100", "100"),
    ("50%", "50"),
    ("The answer is 42.", "42"),
    ("The answer is **42**.", "42"),
    ("**Answer:** $42", "42"),
    ("The final answer is: 42, as step 3 shows", "42"),
    ("The answer is 20/4 + 1 = 6", "6"),
    ("The answer is 12 + 30 = 42.", "42"),
    ("\\boxed{42}", "42"),
    ("\\boxed{\\$42}", "42"),
    ("In step 3: $\\boxed{1,042}$ (see 7)", "1042"),
    ("12 apples and 5 pears", "5"),
    ("10 - 3 = 7", "7"),
    ("10-3", "3"),
    ("1, 2, 3", "3"),
    ("It costs 1,234,567 dollars.", "1234567"),
    ("5kg", "5"),
    ("", None),
    ("none", None),
    ("🤷", None),
    ("9" * 101, None),
]


@pytest.mark.parametrize(("reply", "meant"), NUMBERS)
def test_a_number_is_read_or_the_reply_is_unparsed(reply: str, meant: str | None) -> None:
    assert parsing.extract_number(reply) == meant


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("18", "18"),
        ("$1,200.50", "1200.5"),
        ("3/4", "0.75"),
        (" 18. ", "18"),
        ("1e999999999", None),
        ("Infinity", None),
        ("nan", None),
        ("1, 2, 3", None),
        ("12 34", None),
        ("12,34", None),
        ("5 apples", None),
        ("x", None),
        ("", None),
    ],
)
def test_only_one_number_is_a_number(text: str, plain: str | None) -> None:
    assert parsing.as_number(text) == plain


@given(st.text(), st.lists(st.text(), max_size=26))
def test_any_reply_is_read_without_an_error(reply: str, options: list[str]) -> None:
    meant = parsing.extract_letter(reply, options)
    assert meant is None or 0 <= meant < len(options)
    assert parsing.extract_number(reply) is None or any(c.isdecimal() for c in reply)


WORDS = st.sampled_from(
    ["A", "B", "or", "answer", "is", ":", "\\boxed{", "}", "(", ")", "\n", "not", "Paris", "a", ","]
)


@given(st.lists(WORDS, max_size=12).map(" ".join))
def test_any_mixture_of_the_forms_is_read_without_an_error(reply: str) -> None:
    meant = parsing.extract_letter(reply, CITIES)
    assert meant is None or 0 <= meant < len(CITIES)


@given(st.decimals(-(10**9), 10**9, places=3))
def test_a_number_survives_whatever_its_notation(value: Decimal) -> None:
    plain = parsing.as_number(f"{value}")
    assert plain is not None
    assert (
        plain
        == parsing.extract_number(f"The answer is {value:,}.")
        == parsing.extract_number(f"${value}")
    )
    assert parsing.as_number(plain) == plain


LONG = [
    " " * 100_000,
    "answer" + " " * 100_000,
    "answer" + "\n" * 100_000 + "x",
    "answer is " * 10_000,
    "(" * 100_000,
    "A" * 100_000,
    "A, " * 30_000,
    "\\boxed{" * 15_000,
    "1," * 50_000,
    "1" * 100_000,
    "1/" * 50_000,
    "-" * 100_000,
    "A. x\n" * 20_000,
    "A or " * 20_000,
    "it is " * 17_000,
    "<answer>" * 12_000,
]


@pytest.mark.parametrize("reply", LONG, ids=range(len(LONG)))
def test_a_long_reply_takes_no_time(reply: str) -> None:
    start = time.monotonic()
    parsing.extract_letter(reply, CITIES)
    parsing.extract_number(reply)
    assert time.monotonic() - start < 2
