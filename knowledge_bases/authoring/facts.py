"""Tables of facts: subject, relation, object, and the wordings of statements and questions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from random import Random

import yaml

from knowledge_bases.authoring.exercises import Exercise, Split


@dataclass(frozen=True)
class Relation:
    """One kind of fact: `facts` maps each subject to its object, all objects are of one class."""

    name: str
    title: str
    kind: str
    statements: tuple[str, ...]
    questions: Mapping[Split, tuple[str, ...]]
    facts: Mapping[str, str]

    @property
    def objects(self) -> tuple[str, ...]:
        """The distinct objects, in the order of their first use."""
        return tuple(dict.fromkeys(self.facts.values()))


def load_facts(path: Path) -> tuple[Relation, ...]:
    """Read a facts.yaml of our own making."""
    data = yaml.safe_load(path.read_text(encoding="utf-8"))
    return tuple(
        Relation(
            name=r["name"],
            title=r["title"],
            kind=r["kind"],
            statements=tuple(r["statements"]),
            questions={split: tuple(w) for split, w in r["questions"].items()},
            facts=dict(r["facts"]),
        )
        for r in data["relations"]
    )


def question(rng: Random, relation: Relation, subject: str, wording: str) -> Exercise:
    """A question about one fact; three other objects of the relation are the wrong options."""
    right = relation.facts[subject]
    wrong = rng.sample([o for o in relation.objects if o != right], 3)
    options = [right, *wrong]
    rng.shuffle(options)
    question = wording.format(s=subject)
    return Exercise(question[0].upper() + question[1:], tuple(options), options.index(right))


def statement(wording: str, subject: str, obj: str) -> str:
    """A statement of a fact as a sentence."""
    sentence = wording.format(s=subject, o=obj)
    return sentence[0].upper() + sentence[1:]


def heading(subject: str) -> str:
    """The heading of a subject's section in a document."""
    return subject[0].upper() + subject[1:]
