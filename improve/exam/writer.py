"""Questions that a model writes about passages, each kept only with evidence.

What is kept has no fault in its words and is shown by log-probabilities to come from its passage
(`finetune/synthetic`), and its answer stands in one sentence of the passage. A writer is not asked
its own questions: what a small one answers tells little more (docs/training-data.md).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from domainlift.sampling import hash_order
from domainlift.text.normalise import words
from domainlift.types import Passage
from engines.base import Engine
from finetune.data.sources.sentences import sentences
from finetune.synthetic.generate import Progress, SynthesisJob, synthesize
from finetune.synthetic.prompts import Excerpt, GeneratedText
from improve.exam.fact_finder import Fact, kind_of_answer
from rag.base import Chunk

#: Passages that a model writes about at most.
MOST_PASSAGES = 120
_KIND = "questions"


@dataclass(frozen=True)
class WrittenFacts:
    """Questions by their facts, the digest of the `writer`, and how many it wrote in all."""

    writer: str
    questions: Mapping[Fact, str]
    asked: int
    rejected: Mapping[str, int]


def write_questions(
    name: str, chunks: Sequence[Chunk], engine: Engine, folder: Path, progress: Progress
) -> WrittenFacts:
    """Have a model write about at most `MOST_PASSAGES`; what `folder` holds is not asked again."""
    chosen = sorted(chunks, key=lambda chunk: hash_order(chunk.id, name))[:MOST_PASSAGES]
    by_id = {chunk.id: chunk for chunk in chosen}
    excerpts = [Excerpt(_passage(chunk), chunk.licence) for chunk in chosen]
    job = SynthesisJob(name, excerpts, kinds=(_KIND,))
    book = synthesize(job, engine, folder, progress)
    told = book.yields[_KIND]
    rejected = Counter(told.rejected)
    kept = dict(_drafts(book.kept, by_id, rejected))
    return WrittenFacts(engine.info.digest, kept, told.pieces, dict(rejected))


def _passage(chunk: Chunk) -> Passage:
    return Passage(chunk.text, chunk.heading, chunk.id, chunk.source)


def _drafts(
    kept: Mapping[str, Sequence[GeneratedText]], chunks: Mapping[str, Chunk], rejected: Counter[str]
) -> Iterator[tuple[Fact, str]]:
    """Each question with the fact that it asks for; one answer of a sentence counts once."""
    seen: set[str] = set()
    for passage, texts in kept.items():
        for text in texts:
            question, answer = text.question, text.text.strip().rstrip(".")
            fact = _located(question, answer, chunks[passage])
            if fact is None:
                rejected["its answer stands in no sentence of the passage"] += 1
            elif fact.id in seen:
                rejected["told already"] += 1
            else:
                seen.add(fact.id)
                yield fact, question


def _located(question: str, answer: str, chunk: Chunk) -> Fact | None:
    """The sentence that holds the answer and most of the question's words; None without one."""
    asked = set(words(question))
    holding = [
        (sentence, match)
        for sentence in sentences(chunk.text)
        if (match := re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", sentence, re.IGNORECASE))
    ]
    if not answer or not holding:
        return None
    sentence, match = max(holding, key=lambda pair: len(asked & set(words(pair[0]))))
    return Fact(sentence, match[0], match.start(), kind_of_answer(match[0]), chunk)
