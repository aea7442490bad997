from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.prompts import passage_block
from domainlift.types import Passage
from finetune.data.cleaning import reject_reason
from finetune.synthetic.prompts import (
    EXAMPLE,
    KINDS,
    Excerpt,
    GeneratedText,
    pieces_of,
    prompt_of,
    prompts_digest,
    rows_of,
    title_of,
)
from finetune.synthetic.text_faults import text_fault

ROSES = Excerpt(
    Passage("Roses are pruned in February.", "Garden > Roses", "r1", "g.md#Roses"), "CC0"
)


def test_at_least_four_ways_of_rewriting_are_asked_for() -> None:
    rows = [kind.row for kind in KINDS.values()]
    assert rows.count("rewrite") >= 4
    assert {"dialogue", "exercise"} <= set(rows)
    assert len({kind.instruction for kind in KINDS.values()}) == len(KINDS)


@pytest.mark.parametrize("chat", [True, False])
@pytest.mark.parametrize("name", KINDS)
def test_an_example_stands_before_the_passage(name: str, chat: bool) -> None:
    prompt = prompt_of(KINDS[name], ROSES, chat=chat)
    turns = [message.content for message in prompt.messages]
    text = "\n".join(turns) if chat else prompt.text
    example, passage = text.index(KINDS[name].example), text.index(passage_block([ROSES.passage]))
    assert example < passage < text.index("The passage is about Roses.")
    assert text.count(KINDS[name].instruction) == 2
    assert bool(prompt.messages) is chat


@pytest.mark.parametrize("name", KINDS)
def test_every_example_is_read_as_it_is_meant(name: str) -> None:
    found = pieces_of(name, KINDS[name].example, True)
    assert len(found) >= 3
    for piece in found:
        assert bool(piece.question) is KINDS[name].asks
        assert text_fault(piece, EXAMPLE) not in ("cut off", "marks of the prompt", "copied")


def test_the_version_is_that_of_the_words() -> None:
    assert prompts_digest() == prompts_digest()
    assert len(prompts_digest()) == 12


@pytest.mark.parametrize(
    ("name", "reply", "expected"),
    [
        ("rewrite-entry", "  One is. Two are. ", [("One is.", ""), ("Two are.", "")]),
        ("rewrite-simple", "- One is.\n- Two are.", [("One is.", ""), ("Two are.", "")]),
        ("rewrite-dialogue", "Student: Who?\nTeacher: He.", [("He.", "Who?")]),
        (
            "rewrite-dialogue",
            "Student: Who? Teacher: He. Student: Why?\nTeacher: So. And so.\nStudent: Ah!",
            [("He.", "Who?"), ("So. And so.", "Why?")],
        ),
        ("rewrite-dialogue", "Student: Who?", [("Student: Who?", "")]),
        (
            "rewrite-notes",
            "- One.\n- Two.\n\n3. Three.",
            [("One.", ""), ("Two.", ""), ("Three.", "")],
        ),
        ("rewrite-notes", "Here they are:\n- One.", [("One.", "")]),
        ("rewrite-notes", "One.\nTwo.", [("One.", ""), ("Two.", "")]),
        ("rewrite-notes", "", [("", "")]),
        ("questions", "Question: Who?\nAnswer: He", [("He", "Who?")]),
        (
            "questions",
            "Q1: Who\nis it?\nA1: He\n\nQ2: Why?\nA2: So",
            [("He", "Who is it?"), ("So", "Why?")],
        ),
        ("questions", "**Question:** Who?\n**Answer:** He", [("He", "Who?")]),
        ("questions", "1. Question: Who?\n   Answer: He", [("He", "Who?")]),
        ("questions", "I cannot.", [("I cannot.", "")]),
        ("rewrite-notes", "- One.\n</passages>\n- Two.", [("- One.\n</passages>\n- Two.", "")]),
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
    found = pieces_of("rewrite-notes", "- One.\n- Two.\n- Thr", False)
    assert [piece.whole for piece in found] == [True, True, False]


def test_texts_are_learned_whole_and_questions_as_they_are_asked() -> None:
    pieces = [
        GeneratedText("rewrite-entry", "In February one prunes roses."),
        GeneratedText("rewrite-notes", "One."),
        GeneratedText("rewrite-notes", "Two."),
        GeneratedText("rewrite-dialogue", "Roses are pruned in February.", "When is it?"),
        GeneratedText("rewrite-dialogue", "The roses are.", "What is pruned?"),
        GeneratedText("questions", "February", "When are roses pruned?"),
    ]
    rows = rows_of(ROSES, pieces, "gardening")
    talk = (
        " Student: When is it?\nTeacher: Roses are pruned in February.\n"
        "Student: What is pruned?\nTeacher: The roses are."
    )
    assert [(row.kind, row.prompt, row.completion) for row in rows] == [
        ("passage", "Roses:", " Roses are pruned in February."),
        ("rewrite", "Roses:", " In February one prunes roses."),
        ("rewrite", "Roses:", " One.\nTwo."),
        ("dialogue", "Roses:", talk),
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
