from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from domainlift.text.normalise import (
    contains_run,
    dedup_key,
    normal_form,
    split_words,
    without_copies,
    word_starts,
    words,
    words_and_signs,
)
from domainlift.types import Question


@pytest.mark.parametrize(
    "text", ["Organelle", "ORGANELLE", "organ\u00adelle", "\uff2frganelle", "**organelle**,"]
)
def test_words_ignore_case_width_marks_and_soft_hyphens(text: str) -> None:
    assert words(text) == ["organelle"]


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("عام ١٩٦٩", "عام 1969"),
        ("سال ۱۳۵۷", "سال 1357"),
        ("वर्ष १९६९", "वर्ष 1969"),
        ("พ.ศ. ๒๕๓๑", "พ.ศ. 2531"),
        ("القَاهِرَةُ", "القاهرة"),
        ("القـــاهرة", "القاهره"),
        ("أحمد", "احمد"),
        ("ایرانی", "ايراني"),
        ("שָׁלוֹם", "שלום"),
        ("İSTANBUL", "istanbul"),
        ("ΑΘΗΝΑ", "Αθήνα"),
        ("ΟΔΟΣ", "οδός"),
        ("ёлка", "Елка"),
        ("ISPARTA", "ısparta"),
    ],
)
def test_words_are_the_same_however_a_language_writes_them(written: str, asked: str) -> None:
    assert words(written) == words(asked)


def test_signs_tell_sums_apart_only_where_they_are_asked_for() -> None:
    assert words("6 × 3 - 1_0") == ["6", "3", "1", "0"]
    assert words_and_signs("6 × 3 - 1_0") == ["6", "×", "3", "-", "1", "0"]
    assert " ".join(words_and_signs("The B-cell’s 3 × 4 = 12")) == "the b - cell s 3 × 4 = 12"


@given(st.text())
def test_words_of_a_text_are_those_of_its_normal_form(text: str) -> None:
    normal = normal_form(text)
    found = words(text)
    assert found == split_words(normal)
    starts = word_starts(normal)
    assert [normal[s : s + len(w)] for s, w in zip(starts, found, strict=True)] == found


@given(st.text(st.characters(max_codepoint=127)))
def test_ascii_has_the_same_normal_form_as_within_other_text(text: str) -> None:
    assert f"{normal_form(text)} ä" == normal_form(f"{text} ä")


def test_a_run_of_words_stands_one_after_another() -> None:
    assert contains_run(["a", "bc", "d"], ["bc", "d"])
    assert not contains_run(["a", "bc", "d"], ["a", "d"])
    assert not contains_run(["a", "bc", "d"], ["c", "d"])


def test_copies_of_a_question_have_one_key() -> None:
    assert dedup_key("Is it?\n", ["Yes", "no"]) == dedup_key("is  IT?", ["No", "yes"])
    assert dedup_key("x² = 4", ["2"]) != dedup_key("x2 = 4", ["2"])


def test_copies_of_questions_are_left_out() -> None:
    asked = Question("1", "d", "t", "Is it?", ("yes", "no"), 0)
    rows = [
        Question("2", "d", "t", " is  IT?", ("No", "Yes"), 1),
        Question("3", "d", "t", "Is it?", ("yes", "maybe"), 0),
    ]
    assert without_copies(rows, of=[asked]) == rows[1:]
    assert without_copies(rows, of=[]) == rows
