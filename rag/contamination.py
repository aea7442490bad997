"""Contamination check of a knowledge base: benchmark questions that occur in its chunks.

To the kinds of `domainlift.text.contamination` comes a weaker one:

near     the cosine between the embeddings of the question and of a chunk is at least 0.95.

The chunks of a document are joined again first, so that the end of a chunk hides nothing.
Jaccard's index of the n-grams of the question and of the chunk is reported beside the overlap.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import Literal

from domainlift.text.contamination import NGRAM, MatchKind, QuestionIndex
from domainlift.text.ngrams import jaccard, ngrams
from domainlift.text.normalise import normal_form, split_words, word_starts, words
from domainlift.types import Question
from rag.base import Chunk, Vectors

Kind = MatchKind | Literal["near"]
#: For each vector the nearest chunks, (row, cosine), as `Index.dense` gives them.
Dense = Callable[["Vectors", int], Sequence[Sequence[tuple[int, float]]]]

COSINE = 0.95
_RUN = 64  # chunks of a document that are searched as one text
_BATCH = 1024
_KINDS: Sequence[Kind] = ("exact", "n-gram", "near")


@dataclass(frozen=True)
class Leak:
    """A question that occurs in the knowledge base, and the chunk that shows it best.

    `overlap` is the share of the question's n-grams that occur (1 for `exact`), or the cosine
    (`near`). `jaccard` compares the n-grams with those of the chunk. `places` counts the chunks in
    which the question begins.
    """

    question: str
    chunk: str
    source: str
    heading: str
    kind: Kind
    overlap: float
    jaccard: float = 0.0
    places: int = 1


def find_leaks(
    questions: Sequence[Question],
    chunks: Sequence[Chunk],
    *,
    question_vectors: Vectors | None = None,
    dense: Dense | None = None,
) -> list[Leak]:
    """Return one leak for each question that occurs in the chunks, in the questions' order.

    `near` is looked for where both `question_vectors`, [questions, dimensions], and `dense` are
    given. Of several matches of a question the strongest counts, the first of equal ones.
    """
    leaks = _by_words(chunks, QuestionIndex(questions))
    if question_vectors is not None and dense is not None:
        for place, leak in _by_vectors(questions, chunks, question_vectors, dense):
            leaks.setdefault(place, leak)
    return [leaks[place] for place in sorted(leaks)]


# --- by words


def _by_words(chunks: Sequence[Chunk], index: QuestionIndex) -> dict[int, Leak]:
    # Twice the letters of the longest wording: documents hold line breaks and punctuation too.
    segments = _segments(chunks, 2 * index.longest)
    best: dict[int, Leak] = {}
    rows: dict[int, set[int]] = {}
    for segment, matches in index.search((segment, segment.words) for segment in segments):
        for match in matches:
            row = segment.owner(match.places)
            rows.setdefault(match.question, set()).add(row)
            question, wording = index.questions[match.question], match.wording
            similarity = _jaccard(wording, words(chunks[row].indexed))
            leak = _leak(question, chunks[row], match.kind, match.overlap, similarity)
            _keep_stronger(best, match.question, leak)
    return {place: replace(leak, places=len(rows[place])) for place, leak in best.items()}


def _jaccard(wording: Sequence[str], chunk: Sequence[str]) -> float:
    size = min(NGRAM, len(wording))
    return jaccard(ngrams(wording, size), ngrams(chunk, size))


def _keep_stronger(best: dict[int, Leak], place: int, leak: Leak) -> None:
    before = best.get(place)
    if before is None or _strength(leak) > _strength(before):
        best[place] = leak


def _strength(leak: Leak) -> tuple[int, float]:
    return -_KINDS.index(leak.kind), leak.overlap


def _leak(
    question: Question, chunk: Chunk, kind: Kind, overlap: float, similarity: float = 0.0
) -> Leak:
    return Leak(question.id, chunk.id, chunk.source, chunk.heading, kind, overlap, similarity)


# --- documents, put together again


@dataclass(frozen=True)
class _Segment:
    """Neighbouring chunks of a document as one text in normal form; `ends` of each chunk in it."""

    rows: Sequence[int]
    text: str
    ends: Sequence[int]

    @classmethod
    def of(cls, rows: Sequence[int], pieces: Sequence[str]) -> _Segment:
        plain = [normal_form(piece) for piece in pieces]
        return cls(rows, "".join(plain), list(accumulate(map(len, plain))))

    @property
    def words(self) -> list[str]:
        return split_words(self.text)

    def owner(self, places: Iterable[int]) -> int:
        """The row of the chunk in which most of these words stand, the first of equal ones."""
        starts = word_starts(self.text)
        owners = Counter(bisect_right(self.ends, starts[place]) for place in sorted(places))
        return self.rows[owners.most_common(1)[0][0]]


def _segments(chunks: Sequence[Chunk], reach: int) -> Iterator[_Segment]:
    """Each document in runs of chunks that overlap by `reach` characters, and its headings."""
    places = [(c.source, c.offset, len(c.text), row) for row, c in enumerate(chunks)]
    for _, group in groupby(sorted(places), key=lambda place: place[0]):
        document = [row for *_, row in group]
        pieces = [
            _continued(chunks[before], chunks[row]) if before is not None else chunks[row].text
            for before, row in zip([None, *document], document, strict=False)
        ]
        for start in range(0, len(document), _RUN):
            stop = _stop(pieces, start + _RUN, reach)
            yield _Segment.of(document[start:stop], pieces[start:stop])
        yield from _headed(chunks, document)


def _stop(pieces: Sequence[str], stop: int, reach: int) -> int:
    """End of a run that reaches so many characters beyond its own chunks."""
    while stop < len(pieces) and reach > 0:
        reach -= len(pieces[stop])
        stop += 1
    return min(stop, len(pieces))


def _headed(chunks: Sequence[Chunk], document: Sequence[int]) -> Iterator[_Segment]:
    """The first chunk under each heading together with it: questions make good headings.

    They are texts of their own, for a heading between two chunks could part a question.
    """
    heading = ""
    for row in document:
        if chunks[row].heading not in ("", heading):
            yield _Segment.of([row], [chunks[row].indexed])
        heading = chunks[row].heading


def _continued(before: Chunk, chunk: Chunk) -> str:
    """The part of a chunk that the one before it does not hold."""
    shared = before.offset + len(before.text) - chunk.offset
    if 0 <= shared <= len(chunk.text) and before.text.endswith(chunk.text[:shared]):
        return chunk.text[shared:]
    return f" {chunk.text}"


# --- by vectors


def _by_vectors(
    questions: Sequence[Question],
    chunks: Sequence[Chunk],
    vectors: Vectors,
    dense: Dense,
) -> Iterator[tuple[int, Leak]]:
    if len(vectors) != len(questions):
        raise ValueError(f"{len(vectors)} vectors for {len(questions)} questions")
    for start in range(0, len(questions), _BATCH):
        nearest = dense(vectors[start : start + _BATCH], 1)
        for place, found in enumerate(nearest, start):
            for row, score in found[:1]:
                if score >= COSINE:
                    yield place, _leak(questions[place], chunks[row], "near", float(score))
