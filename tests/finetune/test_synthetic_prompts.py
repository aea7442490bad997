from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.prompts import passage_block
from domainlift.types import Passage
from finetune.data.cleaning import reject_reason
from finetune.synthetic.prompts import (
    KINDS,
    Excerpt,
    GeneratedText,
    pieces_of,
    prompt_of,
    prompts_digest,
    rows_of,
    title_of,
)

ROSES = Excerpt(
    Passage("Roses are pruned in February.", "Garden > Roses", "r1", "g.md#Roses"), "CC0"
)


def test_at_least_four_ways_of_rewriting_are_asked_for() -> None:
    rows = [kind.row for kind in KINDS.values()]
    assert rows.count("rewrite") >= 4
    assert {"implication", "exercise"} <= set(rows)
    assert len({kind.instruction for kind in KINDS.values()}) == len(KINDS)


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_the_passage_stands_first_in_every_prompt(name: str, chat: bool) -> None:
    prompt = prompt_of(KINDS[name], ROSES, chat=chat)
    text = prompt.messages[0].content if chat else prompt.text
    assert text.startswith(passage_block([ROSES.passage]) + "The passage is about Roses.")
    assert KINDS[name].instruction in text
    assert chat or text.endswith(f"Reply:\n{KINDS[name].opening}")
    assert bool(prompt.messages) is chat


def test_the_version_is_that_of_the_words() -> None:
    assert prompts_digest() == prompts_digest()
    assert len(prompts_digest()) == 12


@pytest.mark.parametrize(
    ("name", "reply", "expected"),
    [
        ("rewrite-entry", "  In two\nlines. ", [("In two\nlines.", "")]),
        (
            "implications",
            "- One.\n- Two.\n\n3. Three.",
            [("One.", ""), ("Two.", ""), ("Three.", "")],
        ),
        ("implications", "Here they are:\n- One.", [("One.", "")]),
        ("implications", "One.\nTwo.", [("One.", ""), ("Two.", "")]),
        ("implications", "", [("", "")]),
        ("questions", "Question: Who?\nAnswer: He", [("He", "Who?")]),
        (
            "questions",
            "Q1: Who\nis it?\nA1: He\n\nQ2: Why?\nA2: So",
            [("He", "Who is it?"), ("So", "Why?")],
        ),
        ("questions", "**Question:** Who?\n**Answer:** He", [("He", "Who?")]),
        ("questions", "1. Question: Who?\n   Answer: He", [("He", "Who?")]),
        ("questions", "I cannot.", [("I cannot.", "")]),
        ("implications", "- One.\n</passages>\n- Two.", [("- One.\n</passages>\n- Two.", "")]),
        ("rewrite-entry", "A\x00B", [("AB", "")]),
    ],
)
def test_what_a_reply_holds(name: str, reply: str, expected: list[tuple[str, str]]) -> None:
    assert [(p.text, p.question) for p in pieces_of(name, reply, True)] == expected


@pytest.mark.parametrize("name", KINDS)
@given(reply=st.text(), whole=st.booleans())
def test_every_reply_is_accounted_for(name: str, reply: str, whole: bool) -> None:
    found = pieces_of(name, reply, whole)
    assert found
    assert all(piece.kind == name for piece in found)
    assert found[-1].whole is whole
    assert all(piece.whole for piece in found[:-1])


def test_only_the_end_of_a_cut_off_list_is_lost() -> None:
    found = pieces_of("implications", "- One.\n- Two.\n- Thr", False)
    assert [piece.whole for piece in found] == [True, True, False]


def test_texts_are_learned_whole_and_questions_as_they_are_asked() -> None:
    pieces = [
        GeneratedText("rewrite-entry", "In February one prunes roses."),
        GeneratedText("implications", "One."),
        GeneratedText("implications", "Two."),
        GeneratedText("questions", "February", "When are roses pruned?"),
    ]
    rows = rows_of(ROSES, pieces, "gardening")
    assert [(row.kind, row.prompt, row.completion) for row in rows] == [
        ("passage", "Roses:", " Roses are pruned in February."),
        ("rewrite", "Roses:", " In February one prunes roses."),
        ("implication", "Roses:", " One.\nTwo."),
        ("exercise", "Question: When are roses pruned?\nAnswer:", " February"),
    ]
    assert len({row.source for row in rows}) == len(rows)
    assert all(row.source.startswith("g.md#Roses/r1/") for row in rows)
    assert {(row.licence, row.domain, reject_reason(row)) for row in rows} == {
        ("CC0", "gardening", "")
    }


def test_a_passage_alone_is_no_row() -> None:
    assert rows_of(ROSES, [], "gardening") == []


@pytest.mark.parametrize(
    ("heading", "title"), [("Roses", "Roses"), ("A > B", "B"), ("", "this"), ("A > B:", "B")]
)
def test_a_title_is_the_last_heading(heading: str, title: str) -> None:
    assert title_of(Excerpt(Passage("x", heading))) == title
