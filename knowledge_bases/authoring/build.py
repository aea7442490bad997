"""Writer of the built-in documents and questions: `python -m knowledge_bases.authoring.build`."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

from knowledge_bases.authoring import exercises, facts, stated
from knowledge_bases.authoring.exercises import Exercise, Split

HOME = Path(__file__).parent.parent
# Facts in tables, from which documents and questions are made.
FACT_DOMAINS = ("biology", "history", "security", "everyday", "language")
# Facts that documents written by hand state.
STATED_DOMAINS = ("handbook",)
RULE_DOMAINS: dict[str, Callable[[Random, Split], Exercise]] = {
    "mathematics": exercises.arithmetic,
    "philosophy": exercises.logic,
}
RULE_COUNTS: dict[Split, int] = {"train": 240, "validation": 80, "test": 120}


@dataclass(frozen=True)
class AuthoredQuestion:
    """One line of a questions.jsonl; `support` names the heading that holds the answer."""

    exercise: Exercise
    split: Split
    support: str | None = None


def build_builtin(root: Path) -> None:
    """Write documents and questions below `root`, the same bytes each time."""
    for domain in FACT_DOMAINS:
        relations = facts.load_facts(HOME / domain / "facts.yaml")
        for relation in relations:
            _write(root / domain / _document_name(relation), _document(relation))
        _write(root / domain / "questions.jsonl", _lines(fact_items(domain, relations)))
    for domain in STATED_DOMAINS:
        told = stated.load_stated_facts(HOME / domain / "facts.yaml")
        sections = stated.read_sections(HOME / domain / "documents")
        _write(root / domain / "questions.jsonl", _lines(stated_items(domain, told, sections)))
    for domain in RULE_DOMAINS:
        _write(root / domain / "questions.jsonl", _lines(rule_items(domain)))


def fact_items(domain: str, relations: Iterable[facts.Relation]) -> Iterator[AuthoredQuestion]:
    """Yield a question for every fact in every wording.

    Each question has a random state of its own, so that a change in one fact does not shuffle
    the options of the others, as long as the relation's objects stay the same.
    """
    for relation in relations:
        for subject in relation.facts:
            support = f"{_document_name(relation)}#{facts.heading(subject)}"
            for split, wordings in relation.questions.items():
                for wording in wordings:
                    rng = _random(domain, subject, wording)
                    yield AuthoredQuestion(
                        facts.question(rng, relation, subject, wording), split, support
                    )


def stated_items(
    domain: str, told: Sequence[stated.StatedFact], sections: Mapping[str, str]
) -> Iterator[AuthoredQuestion]:
    """Yield a question for every stated fact in every wording; `sections` are texts by name.

    The right answers take turns in all places, from fact to fact and from wording to wording.
    """
    for number, fact in enumerate(told):
        wrong = stated.wrong_answers(fact, told, sections[fact.section])
        asked = [(split, text) for split, texts in fact.questions.items() for text in texts]
        for place, (split, wording) in enumerate(asked, number):
            rng = _random(domain, fact.answer, wording)
            exercise = stated.stated_question(rng, fact, wording, wrong, place % 4)
            yield AuthoredQuestion(exercise, split, fact.section)


def rule_items(domain: str) -> Iterator[AuthoredQuestion]:
    """Exercises made by rule, no text twice."""
    seen: set[str] = set()
    for split, count in RULE_COUNTS.items():
        rng = _random(domain, split)
        full = len(seen) + count
        while len(seen) < full:
            exercise = RULE_DOMAINS[domain](rng, split)
            if exercise.question not in seen:
                seen.add(exercise.question)
                yield AuthoredQuestion(exercise, split)


# --- the files


def _document_name(relation: facts.Relation) -> str:
    return f"documents/{relation.name}.md"


def _document(relation: facts.Relation) -> str:
    """A document that states each fact twice, in wordings that take turns."""
    parts = [f"# {relation.title}\n"]
    count = len(relation.statements)
    for number, (subject, obj) in enumerate(relation.facts.items()):
        pair = (relation.statements[(number + step) % count] for step in (0, 1))
        statements = " ".join(facts.statement(wording, subject, obj) for wording in pair)
        parts.append(f"## {facts.heading(subject)}\n\n{statements}\n")
    return "\n".join(parts)


def _lines(items: Iterable[AuthoredQuestion]) -> str:
    return "".join(json.dumps(_record(item), ensure_ascii=False) + "\n" for item in items)


def _record(item: AuthoredQuestion) -> dict[str, object]:
    record: dict[str, object] = {
        "question": item.exercise.question,
        "options": item.exercise.options,
        "answer": item.exercise.answer,
        "split": item.split,
    }
    return record if item.support is None else {**record, "support": item.support}


def _random(*parts: str) -> Random:
    return Random(hashlib.sha256("\n".join(parts).encode()).hexdigest())


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    build_builtin(HOME)
