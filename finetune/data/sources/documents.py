"""Training rows made of documents: questions on records, cloze sentences, and continuations."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from domainlift.sampling import seeded_random
from finetune.data.cleaning import clean_field, open_layout
from finetune.data.rows import Row
from finetune.data.sources.cloze import cloze, continuations, spread_of
from finetune.data.sources.mitre_questions import record_questions

if TYPE_CHECKING:
    from langchain_core.documents import Document


def document_rows(documents: Iterable[Document], domain: str) -> list[Row]:
    """Rows of all kinds, of each document; of the metadata source, heading and licence are read."""
    every = list(documents)
    spread = spread_of(document.page_content for document in every)
    rows = []
    for document in every:
        source, heading, licence = (
            clean_field(str(document.metadata.get(key, "")))
            for key in ("source", "heading", "licence")
        )
        exercises = _exercises(document.page_content, source, heading, spread)
        rows += [
            Row(prompt, completion, domain, kind, source, licence)
            for kind, prompt, completion in exercises
        ]
    return rows


def _exercises(
    text: str, source: str, heading: str, spread: Counter[str]
) -> Iterator[tuple[str, str, str]]:
    """Kind, prompt and completion of everything that one document alone decides."""
    for question, answer in record_questions(heading, text):
        yield "record", *open_layout(question, answer)
    draw = seeded_random(f"cloze:{source}:{text}", 0)
    for blanked, term in cloze(text, heading, spread, draw):
        yield "cloze", *open_layout(f"Which word is missing? {blanked}", term)
    draw = seeded_random(f"continue:{source}:{text}", 0)
    for prompt, completion in continuations(text, heading, draw):
        yield "continue", prompt, completion
