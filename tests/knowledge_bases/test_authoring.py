"""The built-in questions and documents: what is shipped is what the tables and rules make."""

from __future__ import annotations

import json
import re
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from knowledge_bases.authoring import facts
from knowledge_bases.authoring.build import (
    FACT_DOMAINS,
    HOME,
    RULE_DOMAINS,
    STATED_DOMAINS,
    build_builtin,
    fact_items,
)

ALL = (*FACT_DOMAINS, *STATED_DOMAINS, *RULE_DOMAINS)
# Those that the embedded model learned to read: it knows no other words.
OF_TINY = ("biology", "history", "security")
SPLITS = ("train", "validation", "test")


def questions(domain: str) -> list[dict[str, Any]]:
    text = (HOME / domain / "questions.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in text.splitlines()]


def relations(domain: str) -> tuple[facts.Relation, ...]:
    return facts.load_facts(HOME / domain / "facts.yaml")


def words(text: str) -> set[str]:
    return set(re.findall(r"\w+", re.sub(r"\{\w\}", "", text).lower()))


def built_files(root: Path) -> dict[str, bytes]:
    # git may have given the shipped files the line ends of the system
    return {
        path.relative_to(root).as_posix(): path.read_bytes().replace(b"\r\n", b"\n")
        for path in [*root.glob("*/questions.jsonl"), *root.glob("*/documents/*")]
    }


# --- the build


def test_the_shipped_files_are_those_that_are_built(tmp_path: Path) -> None:
    build_builtin(tmp_path)
    by_hand = {f"{domain}/documents" for domain in (*STATED_DOMAINS, *RULE_DOMAINS)}
    shipped = built_files(HOME)
    assert built_files(tmp_path) == {
        name: content
        for name, content in shipped.items()
        if Path(name).parent.as_posix() not in by_hand
    }


def test_two_builds_write_the_same_bytes(tmp_path: Path) -> None:
    build_builtin(tmp_path / "a")
    build_builtin(tmp_path / "b")
    files = [path for path in (tmp_path / "a").rglob("*") if path.is_file()]
    assert files
    for path in files:
        content = path.read_bytes()
        assert content == (tmp_path / "b" / path.relative_to(tmp_path / "a")).read_bytes()
        assert b"\r" not in content
        assert content.endswith(b"\n")


def test_a_change_in_one_fact_does_not_shuffle_the_others() -> None:
    first = relations("biology")[0]
    other = replace(first, facts={**first.facts, "glucagon": first.facts["thyroxine"]})
    assert other.objects == first.objects
    pairs = zip(*(fact_items("biology", [r]) for r in (first, other)), strict=True)
    changed = [before for before, after in pairs if before != after]
    assert changed
    assert {item.support for item in changed} == {"documents/gland.md#Glucagon"}


# --- the questions


@pytest.mark.parametrize("domain", ALL)
def test_every_question_can_be_asked_and_scored(domain: str) -> None:
    keys = ["question", "options", "answer", "split"]
    keys += ["support"] if domain not in RULE_DOMAINS else []
    for question in questions(domain):
        assert list(question) == keys
        assert 2 <= len(question["options"]) <= 4
        assert 0 <= question["answer"] < len(question["options"])
        assert question["split"] in SPLITS
        assert question["question"][0] == question["question"][0].upper()


@pytest.mark.parametrize("domain", ALL)
def test_no_option_begins_with_another(domain: str) -> None:
    # the likelihood of the longer option would contain that of the shorter one
    for question in questions(domain):
        options = question["options"]
        clashes = [(a, b) for a in options for b in options if a is not b and b.startswith(a)]
        assert clashes == [], question["question"]


@pytest.mark.parametrize("domain", ALL)
def test_no_question_is_asked_twice(domain: str) -> None:
    texts = Counter(question["question"] for question in questions(domain))
    assert [text for text, count in texts.items() if count > 1] == []


@pytest.mark.parametrize("domain", ALL)
def test_the_right_answer_stands_in_every_place(domain: str) -> None:
    four = [q["answer"] for q in questions(domain) if len(q["options"]) == 4]
    share = Counter(four)
    assert all(0.2 < share[place] / len(four) < 0.3 for place in range(4))


@pytest.mark.parametrize("domain", RULE_DOMAINS)
def test_the_rules_fill_each_split(domain: str) -> None:
    counts = Counter(question["split"] for question in questions(domain))
    assert counts == {"train": 240, "validation": 80, "test": 120}


@pytest.mark.parametrize("domain", FACT_DOMAINS)
def test_each_fact_is_asked_five_times(domain: str) -> None:
    counts = Counter(question["split"] for question in questions(domain))
    number = sum(len(relation.facts) for relation in relations(domain))
    assert number >= 60
    assert counts == {"train": 3 * number, "validation": number, "test": number}


# --- the tables of facts


@pytest.mark.parametrize("domain", FACT_DOMAINS)
def test_the_splits_share_no_wording(domain: str) -> None:
    wordings = Counter(
        wording for r in relations(domain) for split in SPLITS for wording in r.questions[split]
    )
    assert [wording for wording, count in wordings.items() if count > 1] == []


@pytest.mark.parametrize("domain", OF_TINY)
@pytest.mark.parametrize("split", ["validation", "test"])
def test_held_out_wordings_use_known_words(domain: str, split: str) -> None:
    table = relations(domain)
    known = set().union(*(words(w) for r in table for w in (*r.questions["train"], *r.statements)))
    asked = set().union(*(words(w) for r in table for w in r.questions[split]))
    assert asked - known == set()


# --- the documents


@pytest.mark.parametrize("domain", [*FACT_DOMAINS, *STATED_DOMAINS])
def test_the_support_of_a_question_holds_its_answer(domain: str) -> None:
    for question in questions(domain):
        file, heading = question["support"].split("#")
        text = (HOME / domain / file).read_text(encoding="utf-8")
        _, told = text.split(f"\n## {heading}\n")
        told = told.split("\n## ")[0]
        assert question["options"][question["answer"]].lower() in told.lower()
        assert told.count(".\n") + told.count(". ") >= 2


@pytest.mark.parametrize("domain", FACT_DOMAINS)
def test_documents_tell_each_fact_in_changing_wordings(domain: str) -> None:
    for relation in relations(domain):
        text = (HOME / domain / "documents" / f"{relation.name}.md").read_text(encoding="utf-8")
        assert text.startswith(f"# {relation.title}\n")
        for wording in relation.statements:
            told = [facts.statement(wording, s, o) in text for s, o in relation.facts.items()]
            assert any(told)
            assert not all(told)


def test_the_sums_in_the_documents_are_right() -> None:
    signs = {"plus": int.__add__, "minus": int.__sub__, "times": int.__mul__}
    text = "\n".join(
        path.read_text(encoding="utf-8")
        for path in (HOME / "mathematics" / "documents").glob("*.md")
    )
    found = re.findall(r"(\d+) (plus|minus|times) (\d+) is (\d+)", text)
    assert len(found) > 80
    assert [f for f in found if signs[f[1]](int(f[0]), int(f[2])) != int(f[3])] == []
    compared = re.findall(r"(\d+) is larger than (\d+)", text)
    assert len(compared) > 4
    assert [c for c in compared if int(c[0]) <= int(c[1])] == []


@pytest.mark.parametrize("domain", ALL)
def test_documents_are_headed_paragraphs(domain: str) -> None:
    for path in (HOME / domain / "documents").iterdir():
        text = path.read_text(encoding="utf-8")
        headings = re.findall(r"^## (.+)$", text, flags=re.MULTILINE)
        assert path.suffix == ".md"
        assert re.match(r"# .+\n\n## ", text)
        assert len(headings) == len(set(headings)) >= 4
