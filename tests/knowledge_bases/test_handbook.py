"""The handbook: every fact is stated once, asked in wordings of its own, and fairly."""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

import pytest

from knowledge_bases.authoring.build import HOME
from knowledge_bases.authoring.stated import (
    StatedFact,
    load_stated_facts,
    read_sections,
    states,
    wrong_answers,
)

FACTS = load_stated_facts(HOME / "handbook" / "facts.yaml")
SECTIONS = read_sections(HOME / "handbook" / "documents")
UNTRAINED = [fact for fact in FACTS if not fact.questions["train"]]
HELD_OUT = ("validation", "test")


def questions() -> list[dict[str, Any]]:
    text = (HOME / "handbook" / "questions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", text.lower()))


# --- the facts


def test_there_are_facts_to_train_and_some_that_are_never_trained() -> None:
    assert len(FACTS) - len(UNTRAINED) >= 80
    assert 0.15 < len(UNTRAINED) / len(FACTS) < 0.25
    # One of each kind: what an adapter learned of a kind tells nothing of these facts.
    assert Counter(fact.kind for fact in UNTRAINED) == dict.fromkeys({f.kind for f in FACTS}, 1)


def test_every_fact_has_its_wordings() -> None:
    for fact in FACTS:
        counts = {split: len(wordings) for split, wordings in fact.questions.items()}
        trained = 0 if fact in UNTRAINED else 3
        assert counts == {"train": trained, "validation": 1, "test": 1}, fact.answer


def test_every_question_asks_for_a_fact_of_its_section() -> None:
    asked = [(q["support"], q["split"], q["question"]) for q in questions()]
    told = [(f.section, s, w) for f in FACTS for s, texts in f.questions.items() for w in texts]
    assert asked == told


def test_no_two_facts_have_one_answer() -> None:
    assert len({fact.answer for fact in FACTS}) == len(FACTS)


# --- the documents


@pytest.mark.parametrize("fact", FACTS, ids=lambda fact: fact.answer)
def test_the_section_of_a_fact_states_its_answer_once(fact: StatedFact) -> None:
    sentences = re.split(r"(?<=[.?!]) ", SECTIONS[fact.section])
    assert sum(states(sentence, fact.answer) for sentence in sentences) == 1
    assert len(wrong_answers(fact, FACTS, SECTIONS[fact.section])) >= 3


def test_no_wrong_option_stands_in_the_section() -> None:
    kinds = {fact.answer: fact.kind for fact in FACTS}
    for question in questions():
        right = question["options"].pop(question["answer"])
        assert len(set(question["options"])) == 3
        assert {kinds[option] for option in question["options"]} == {kinds[right]}
        assert not any(states(SECTIONS[question["support"]], o) for o in question["options"])


def test_every_section_is_asked_about() -> None:
    assert {fact.section for fact in FACTS} == set(SECTIONS)


@pytest.mark.parametrize(
    ("text", "answer", "stated"),
    [
        ("It is locked at 16:20.", "16:20", True),
        ("It is locked at 16:20.", "6:20", False),
        ("Alternately", "Tern", False),
        ("The map room is free.", "the map room", True),
        ("Nine days later", "nine days", True),
    ],
)
def test_an_answer_is_found_by_whole_words(text: str, answer: str, stated: bool) -> None:
    assert states(text, answer) is stated


# --- the wordings


def test_held_out_wordings_are_no_edits_of_trained_ones() -> None:
    for fact in FACTS:
        trained = [words(wording) for wording in fact.questions["train"]]
        for split in HELD_OUT:
            for wording in fact.questions[split]:
                held = words(wording)
                near = [t for t in trained if len(held & t) / len(held | t) > 0.7]
                assert near == [], wording


def test_no_question_gives_an_answer_away() -> None:
    for question in questions():
        assert not any(states(question["question"], option) for option in question["options"])


def test_no_trained_wording_names_the_answer_of_an_untrained_fact() -> None:
    trained = [w for fact in FACTS for w in fact.questions["train"]]
    assert [w for w in trained for fact in UNTRAINED if states(w, fact.answer)] == []


@pytest.mark.parametrize("split", ["train", "validation", "test"])
def test_the_right_answer_takes_turns(split: str) -> None:
    asked = [q["answer"] for q in questions() if q["split"] == split]
    assert all(0.22 < asked.count(place) / len(asked) < 0.29 for place in range(4))
