"""Rows made of a domain's own material: its training questions and its documents.

What a row is made of it says by its kind: `question`, `record`, `cloze`, `continue`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from domainlift.types import Question
from finetune.data.cleaning import one_line, plain_form
from finetune.data.formats.base import Render
from finetune.data.rows import Row
from finetune.data.sampling import choose_evenly, seeded_order
from finetune.data.sources.cloze import cloze, continuations, spread_of
from finetune.data.sources.mitre_questions import record_questions


class Document(Protocol):
    """A text with what is known of it, as LangChain has it.

    Of `metadata` the texts `source`, `heading` and `licence` are looked at.
    """

    @property
    def page_content(self) -> str:
        """The text."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """What is known of it."""
        ...


def question_rows(
    questions: Iterable[Question],
    render: Render,
    *,
    size: int | None = None,
    seed: int = 0,
    licence: str = "",
) -> list[Row]:
    """The training wordings of questions, as they will be asked; other splits are left out.

    Each is a source of its own, so that the wordings of one fact fall into several splits:
    validation then asks in a wording that was not trained, as a test does.
    """
    rows = []
    for question in questions:
        if question.split == "train":
            prompt, completion = render(question)
            source = f"{question.task}#{question.id}"
            rows.append(Row(prompt, completion, question.domain, "question", source, licence))
    return choose_evenly(rows, size, seed, name=lambda row: row.id, kind=lambda row: row.domain)


def document_rows(
    documents: Iterable[Document],
    domain: str,
    *,
    size: int | None = None,
    seed: int = 0,
    kinds: Sequence[str] = ("record", "cloze", "continue"),
    render: Render = plain_form,
) -> list[Row]:
    """Rows of the documents, at most `size`, an even share of each kind.

    `render` puts records and cloze sentences as questions; `continue` rows are plain text.
    """
    held = list(documents)
    spread = spread_of(document.page_content for document in held)
    rows = [
        Row(prompt, completion, domain, kind, place.source, place.licence)
        for document in held
        for place in [_Place.of(document)]
        for kind in kinds
        for prompt, completion in KINDS[kind](_Material(place, spread, seed), render)
    ]
    return choose_evenly(rows, size, seed, name=lambda row: row.id, kind=lambda row: row.kind)


# --- the kinds


@dataclass(frozen=True)
class _Place:
    text: str
    source: str
    heading: str
    licence: str

    @classmethod
    def of(cls, document: Document) -> _Place:
        known = document.metadata
        told = (one_line(str(known.get(key, ""))) for key in ("source", "heading", "licence"))
        return cls(document.page_content, *told)


@dataclass(frozen=True)
class _Material:
    """One document, the words of all of them, and chance that depends on the document alone."""

    place: _Place
    spread: Counter[str]
    seed: int

    def draw(self, kind: str) -> Random:
        return Random(seeded_order(f"{kind}:{self.place.source}:{self.place.text}", self.seed))


def _records(material: _Material, render: Render) -> Iterator[tuple[str, str]]:
    for asked, told in record_questions(material.place.heading, material.place.text):
        yield render(_open_question(asked, told))


def _cloze(material: _Material, render: Render) -> Iterator[tuple[str, str]]:
    place = material.place
    for blanked, term in cloze(place.text, place.heading, material.spread, material.draw("cloze")):
        yield render(_open_question(f"Which word is missing? {blanked}", term))


def _continued(material: _Material, _: Render) -> Iterator[tuple[str, str]]:
    place = material.place
    return continuations(place.text, place.heading, material.draw("continue"))


def _open_question(text: str, answer: str) -> Question:
    return Question("", "", "", text, (), answer, split="train")


#: What rows can be made of a document.
KINDS: Mapping[str, Callable[[_Material, Render], Iterator[tuple[str, str]]]] = {
    "record": _records,
    "cloze": _cloze,
    "continue": _continued,
}
