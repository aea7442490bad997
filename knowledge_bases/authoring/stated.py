"""Facts that documents written by hand state, with the wordings of the questions on each."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import yaml

from knowledge_bases.authoring.exercises import Exercise, Split


@dataclass(frozen=True)
class StatedFact:
    """Fact that a section states, `documents/FILE.md#HEADING`; `kind` is that of its answer.

    Without wordings for `train` it is never trained, so that an adapter can only guess it.
    """

    kind: str
    answer: str
    section: str
    questions: Mapping[Split, tuple[str, ...]]


def load_stated_facts(path: Path) -> tuple[StatedFact, ...]:
    """Read a facts.yaml of our own making."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(
        StatedFact(
            kind=group["kind"],
            answer=entry["answer"],
            section=f"documents/{entry['in']}",
            questions={
                "train": tuple(entry.get("train", ())),
                "validation": (entry["validation"],),
                "test": (entry["test"],),
            },
        )
        for group in data["kinds"]
        for entry in group["facts"]
    )


def read_sections(documents: Path) -> dict[str, str]:
    """Read a folder's Markdown: the text of each section by `documents/FILE.md#HEADING`."""
    found = {}
    for path in sorted(documents.glob("*.md")):
        _, *parts = re.split(r"^## ", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
        for part in parts:
            heading, text = part.split("\n", 1)
            found[f"documents/{path.name}#{heading}"] = text.strip()
    return found


def wrong_answers(fact: StatedFact, facts: Iterable[StatedFact], text: str) -> list[str]:
    """Answers of the fact's kind that do not stand in the text of its section."""
    answers = dict.fromkeys(each.answer for each in facts if each.kind == fact.kind)
    return [answer for answer in answers if answer != fact.answer and not states(text, answer)]


def states(text: str, answer: str) -> bool:
    """Whether the words of an answer stand in a text."""
    whole = rf"(?<!\w)(?<!\d:){re.escape(answer)}(?!\w)(?!:\d)"
    return re.search(whole, text, re.IGNORECASE) is not None


def stated_question(
    rng: Random, fact: StatedFact, wording: str, wrong: Sequence[str], place: int
) -> Exercise:
    """A question about one fact: the right answer at `place` among three of the wrong ones."""
    options = rng.sample(wrong, 3)
    options.insert(place, fact.answer)
    return Exercise(wording, tuple(options), place)
