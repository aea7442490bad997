from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest

from benchmarks.tasks.base import ALL_MODES, Task
from domainlift.types import Question
from engines.base import Mode
from finetune.data.rows import Row
from finetune.data.sources.cloze import BLANK
from finetune.data.sources.documents import document_rows
from finetune.data.sources.mitre_questions import record_questions
from finetune.data.sources.questions import question_rows
from finetune.data.sources.sentences import sentences


@dataclass
class Page:
    """What LangChain's documents look like."""

    page_content: str
    metadata: dict[str, str] = field(default_factory=dict)


PHISHING = Page(
    "Adversaries may send messages to gain access. All forms of phishing are electronic.\n\n"
    "It is common.\n\nTactics: initial-access, lateral-movement\n\nPlatforms: Linux, Windows",
    {"source": "attack.jsonl#T1566", "heading": "Phishing (technique T1566)", "licence": "MITRE"},
)
CELL = Page(
    "The mitochondrion provides the cell with most of its chemical energy. "
    "Its inner membrane folds into cristae that enlarge the surface. "
    "A ribosome reads messenger molecules and builds proteins from amino acids. "
    "Every mammal needs the hormone insulin for the use of sugar in tissues. "
    "See Fig. 3 for the parts of the mitochondrion in a cell of the liver.",
    {"source": "book.md#Cell", "heading": "Biology > The Mitochondrion"},
)


def pages(count: int) -> list[Page]:
    return [
        Page(CELL.page_content.replace("sugar", f"sugar {n}"), {"source": f"book.md#{n}"})
        for n in range(count)
    ]


def of_kind(kind: str, documents: Sequence[Page]) -> list[Row]:
    return [row for row in document_rows(documents, "biology") if row.kind == kind]


# --- questions


def question(number: int, split: str) -> Question:
    return Question(
        *(f"{number}", "biology", "own:biology", f"Which group is animal {number} in?"),
        *(("birds", "fish"), number % 2),
        split=split,  # type: ignore[arg-type]
    )


def task(questions: Sequence[Question], mode: Mode = Mode.CLOZE) -> Task:
    return Task("own:biology", "biology", tuple(questions), (), "", mode, ALL_MODES, 0, "")


def test_only_training_wordings_are_learned_as_they_are_asked() -> None:
    questions = [question(n, split) for n, split in enumerate(["train", "validation", "test"])]
    assert question_rows(task(questions), licence="CC0") == [
        Row(
            "Question: Which group is animal 0 in?\nAnswer:",
            " birds",
            "biology",
            "question",
            "own:biology#0",
            "CC0",
        )
    ]
    [shown] = question_rows(task(questions, Mode.LETTER))
    asked = "Which group is animal 0 in?\nA. birds\nB. fish\nAnswer:"
    assert (shown.prompt, shown.completion) == (asked, " A")
    assert len(question_rows(task([question(n, "train") for n in range(9)]), size=4)) == 4


# --- records


def test_what_is_asked_about_a_technique() -> None:
    asked = dict(record_questions(PHISHING.metadata["heading"], PHISHING.page_content))
    described = "Adversaries may send messages to gain access."
    assert asked["What is the technique T1566 called?"] == "Phishing"
    assert asked["Under which number is the technique Phishing listed?"] == "T1566"
    assert asked["Which tactic does the technique Phishing serve?"] == (
        "initial access, lateral movement"
    )
    assert asked["On which platforms is the technique Phishing found?"] == "Linux, Windows"
    assert asked["What is the technique Phishing?"] == described
    assert asked[f"Which technique is this? {described}"] == "Phishing"


@pytest.mark.parametrize(
    ("heading", "text", "asked", "told"),
    [
        (
            "Forceful Browsing (CAPEC-87)",
            "Forceful browsing opens pages.\n\nTypical severity: High",
            ["What is CAPEC-87 called?", "Which attack pattern is this? ____ opens pages."],
            ["High", "Forceful Browsing"],
        ),
        (
            "CWE-561: Dead Code",
            "Dead code never runs.\n\nConsequence for Integrity: Modify Files\n"
            "Consequence for Other: Varies\nMitigation in Testing: Remove it.",
            [
                "What is the consequence of the weakness Dead Code for integrity?",
                "How is the weakness Dead Code avoided in testing?",
            ],
            ["Modify Files", "Remove it."],
        ),
    ],
)
def test_other_objects(heading: str, text: str, asked: list[str], told: list[str]) -> None:
    found = dict(record_questions(heading, text))
    assert set(told) <= set(found.values())
    assert any(wording in found for wording in asked)
    assert "Varies" not in found.values()


def test_the_name_does_not_stand_in_the_question_that_asks_for_it() -> None:
    for heading in ("Browsing (CAPEC-87)", "CWE-1: Browsing", "Browsing (tool S0001)"):
        for asked, told in record_questions(heading, "browsing opens many pages at once."):
            assert told.lower() not in asked.lower()


@pytest.mark.parametrize("heading", ["", "The Cell (Chapter 3)", "Biology > Cells", "CWE: x"])
def test_other_headings_are_no_records(heading: str) -> None:
    assert list(record_questions(heading, "Text. More text.")) == []


# --- prose


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("One is here. Two is there! Three?", ["One is here.", "Two is there!", "Three?"]),
        ("See Fig. 3 there. E. coli lives.", ["See Fig. 3 there.", "E. coli lives."]),
        ("He said “no.” Then he left.", ["He said “no.”", "Then he left."]),
        ("A line\nAnother line", ["A line", "Another line"]),
        ("It has 3.5 parts, e.g. This one.", ["It has 3.5 parts, e.g. This one."]),
        ("", []),
    ],
)
def test_sentences(text: str, expected: list[str]) -> None:
    assert list(sentences(text)) == expected


def test_cloze_rows_leave_out_a_term() -> None:
    rows = of_kind("cloze", [CELL, *pages(2)])
    sentence = "The mitochondrion provides the cell with most of its chemical energy."
    for row in rows:
        asked = row.prompt.removeprefix("Question: Which word is missing? ")
        asked = asked.removesuffix("\nAnswer:")
        assert BLANK in asked
        assert row.completion.strip().lower() not in asked.lower()
        assert not asked.startswith(("Its", "See"))
    named = [row for row in rows if sentence.replace("mitochondrion", BLANK) in row.prompt]
    assert [row.completion for row in named][:1] == [" mitochondrion"]


def test_continued_rows_join_to_what_the_section_says() -> None:
    rows = of_kind("continue", [CELL])
    assert len(rows) == 1
    head, _, beginning = rows[0].prompt.partition("\n\n")
    assert head == "Biology > The Mitochondrion"
    assert beginning + rows[0].completion in CELL.page_content


def test_lists_links_and_short_texts_give_no_exercises() -> None:
    for text in (
        "Short. Text. Here.",
        "Spider: An attacker follows all links of a page with some tool. " * 4,
        "The page http://example.org/a shows which of the parts are there now. " * 4,
    ):
        assert document_rows([Page(text)], "d") == []


# --- all together


def test_rows_of_each_kind_carry_their_source() -> None:
    rows = document_rows([PHISHING, *pages(4)], "security")
    counted = Counter(row.kind for row in rows)
    assert counted == {"record": 15, "cloze": 12, "continue": 4}
    for row in rows:
        assert (row.domain, bool(row.source)) == ("security", True)
        if row.kind == "record":
            assert (row.source, row.licence) == ("attack.jsonl#T1566", "MITRE")


def test_rows_do_not_depend_on_the_neighbours() -> None:
    assert of_kind("continue", pages(30)) == of_kind("continue", pages(31))[:30]
