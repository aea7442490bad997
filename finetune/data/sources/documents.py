"""Training rows made of documents: questions on records, cloze sentences, and continuations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any, Protocol

from domainlift.sampling import sample_evenly, seeded_random
from finetune.data.cleaning import clean_field, open_layout
from finetune.data.rows import Row
from finetune.data.sources.cloze import cloze, continuations, spread_of
from finetune.data.sources.mitre_questions import record_questions


class Document(Protocol):
    """A text with metadata, as in LangChain; `source`, `heading` and `licence` are read."""

    @property
    def page_content(self) -> str:
        """The text."""
        ...

    @property
    def metadata(self) -> Mapping[str, Any]:
        """The metadata."""
        ...


def document_rows(
    documents: Iterable[Document],
    domain: str,
    *,
    size: int | None = None,
    seed: int = 0,
    kinds: Sequence[str] | None = None,
) -> list[Row]:
    """Rows of the documents, at most `size`, an even share of each of the `kinds` (None: all)."""
    every = list(documents)
    spread = spread_of(document.page_content for document in every)
    rows = [
        Row(prompt, completion, domain, kind, place.source, place.licence)
        for document in every
        for place in [_Place.of(document)]
        for kind in (kinds if kinds is not None else KINDS)
        for prompt, completion in KINDS[kind](_Material(place, spread, seed))
    ]
    return sample_evenly(rows, size, seed, name=lambda row: row.id, kind=lambda row: row.kind)


# --- the kinds


@dataclass(frozen=True)
class _Place:
    text: str
    source: str
    heading: str
    licence: str

    @classmethod
    def of(cls, document: Document) -> _Place:
        texts = (
            clean_field(str(document.metadata.get(key, "")))
            for key in ("source", "heading", "licence")
        )
        return cls(document.page_content, *texts)


@dataclass(frozen=True)
class _Material:
    """One document, the word counts of all, and a random generator for the document alone."""

    place: _Place
    spread: Counter[str]
    seed: int

    def draw(self, kind: str) -> Random:
        return seeded_random(f"{kind}:{self.place.source}:{self.place.text}", self.seed)


def _records(material: _Material) -> Iterator[tuple[str, str]]:
    for question, answer in record_questions(material.place.heading, material.place.text):
        yield open_layout(question, answer)


def _cloze(material: _Material) -> Iterator[tuple[str, str]]:
    place = material.place
    for blanked, term in cloze(place.text, place.heading, material.spread, material.draw("cloze")):
        yield open_layout(f"Which word is missing? {blanked}", term)


def _continued(material: _Material) -> Iterator[tuple[str, str]]:
    place = material.place
    return continuations(place.text, place.heading, material.draw("continue"))


#: Kind of row -> its maker; a new kind is one more entry.
KINDS: Mapping[str, Callable[[_Material], Iterator[tuple[str, str]]]] = {
    "record": _records,
    "cloze": _cloze,
    "continue": _continued,
}
