"""Benchmark questions that stand in a knowledge base: a score on them would prove nothing.

Three kinds, the strongest first:

exact    the whole question, or the question followed by its options (bare, or labelled A B C or
         1 2 3), stands in the documents word for word.
n-gram   at least 70 % of the question's 13-grams stand in one document.
near     the question's embedding is all but that of a chunk.

Texts are compared as words: NFKC, case folded, without punctuation. The chunks of a document are
joined again first, so that the end of a chunk hides nothing.

Published practice counts 13-grams: GPT-3 (Brown et al. 2020, appendix C) takes one shared gram
as a collision and looks at texts of any length by grams between 8 and 13 words; CompactDS (2025)
drops passages whose 13-gram Jaccard index |Q ∩ C| / |Q ∪ C| with a question is above 0.7. Between
a question of 30 words and a chunk of 150 that index is at most 18 / 138, so it can fire only where
a passage is nothing but the question. Containment, |Q ∩ C| / |Q|, asks the same of the question
alone and does not depend on how documents are cut: it decides, at the same 0.7, and Jaccard's
index with the chunk is reported beside it. One shared gram would be too little here: a question
may quote a law or a poem that a good document quotes too.

A question of less than 13 words is one gram as it stands. It is looked for without its options
only where it has six words or more, one of which says what it is about ("Which of the following
is true?" has none), and eight where it does not ask, for "The Voting Rights Act of 1965", of
which the options say more, stands in every good book.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate, groupby
from typing import TYPE_CHECKING, Literal

from rag.ngrams import Grams, normal, normal_words, text_words, word_starts

if TYPE_CHECKING:
    from domainlift.types import Question
    from rag.base import Chunk, Vectors

Kind = Literal["exact", "n-gram", "near"]
#: For each vector the nearest chunks, (row, cosine), as `Index.dense` gives them.
Dense = Callable[["Vectors", int], Sequence[Sequence[tuple[int, float]]]]

SIZE = 13
SHARE = 0.7
COSINE = 0.95
_FEWEST = 6
_FEWEST_OF_A_STEM = 8
_RUN = 64  # chunks of a document that are searched as one text
_BATCH = 1024
_KINDS: Sequence[Kind] = ("exact", "n-gram", "near")


@dataclass(frozen=True)
class Leak:
    """A question that stands in the knowledge base, and the chunk that shows it best.

    `overlap` is the share of the question's grams that stand there (1 for `exact`), or the cosine
    (`near`). `jaccard` compares the grams with those of the chunk. `places` counts the chunks in
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
    size: int = SIZE,
    share: float = SHARE,
    cosine: float = COSINE,
) -> list[Leak]:
    """Return one leak for each question that stands in the chunks, in the questions' order.

    `near` is looked for where both `question_vectors`, [questions, dimensions], and `dense` are
    given. Of several findings for a question the strongest counts, the first of equal ones.
    """
    found = _by_words(questions, chunks, size, share)
    if question_vectors is not None and dense is not None:
        for place, leak in _by_vectors(questions, chunks, question_vectors, dense, cosine):
            found.setdefault(place, leak)
    return [found[place] for place in sorted(found)]


def passage_checker(
    questions: Sequence[Question], size: int = SIZE, share: float = SHARE
) -> Callable[[Sequence[str]], list[bool]]:
    """Return what tells of each text whether a question stands in it, by the same grams.

    What is sought is prepared once, for any number of texts.
    """
    grams = Grams([form.words for form in _all_forms(questions)], size)

    def found(texts: Sequence[str]) -> list[bool]:
        told = [False] * len(texts)
        segments = ((place, text_words(text)) for place, text in enumerate(texts))
        for place, _, hits in grams.scan(segments):
            told[place] = any(_overlap(grams, form, hits[form]) >= share for form in hits)
        return told

    return found


# --- what is looked for


@dataclass(frozen=True)
class _Form:
    """One way in which a question may stand in a document."""

    question: int
    words: tuple[str, ...]


# Words that many questions share and that do not say what one is about.
_EMPTY = frozenset(
    text_words("""
    a above according all an and answer are as at be best below by can choice choose consider
    correct correctly describe described describes do does each either equal equals etc example
    examples except false figure following for from given has have how if in incorrect is it its
    least likely made many may most must none not of on one only option options or other part
    passage question refer refers said select shown some statement statements such text that the
    their them these they this those to true two type untrue used using was were what when where
    which who whom whose why will with would you
    """)
)
_ASKING = frozenset(["what", "when", "where", "which", "who", "whom", "whose", "why", "how"])
_ASKING_MARKS = frozenset("?¿؟？")
_LABELS = ("abcdefghijklmnopqrstuvwxyz", [str(number) for number in range(1, 27)])


def _all_forms(questions: Sequence[Question]) -> list[_Form]:
    return [form for place, q in enumerate(questions) for form in _forms(place, q)]


def _forms(place: int, question: Question) -> Iterator[_Form]:
    text = text_words(question.text)
    options = [text_words(option) for option in question.options]
    together = [*text, *(word for option in options for word in option)]
    if _tells(text, _FEWEST if _asks(question.text, text) else _FEWEST_OF_A_STEM):
        yield _Form(place, tuple(text))
    if options and _tells(together, _FEWEST):
        yield _Form(place, tuple(together))
        for labels in _LABELS:
            labelled = [w for name, o in zip(labels, options, strict=False) for w in (name, *o)]
            yield _Form(place, (*text, *labelled))


def _tells(text: Sequence[str], fewest: int) -> bool:
    return len(text) >= fewest and not _EMPTY.issuperset(text)


def _asks(text: str, parts: Sequence[str]) -> bool:
    return not _ASKING_MARKS.isdisjoint(text) or not _ASKING.isdisjoint(parts)


# --- by words


def _by_words(
    questions: Sequence[Question], chunks: Sequence[Chunk], size: int, share: float
) -> dict[int, Leak]:
    forms = _all_forms(questions)
    grams = Grams([form.words for form in forms], size)
    # Twice the letters of the longest form: documents hold line breaks and punctuation too.
    reach = 2 * max((len(" ".join(form.words)) for form in forms), default=0)
    best: dict[int, Leak] = {}
    rows: dict[int, set[int]] = {}
    segments = ((segment, segment.words) for segment in _segments(chunks, reach))
    for segment, text, found in grams.scan(segments):
        for number, places in found.items():
            form, overlap = forms[number], _overlap(grams, number, places)
            if overlap < share:
                continue
            start = _whole(form.words, text, places)
            row = segment.owner(places if start is None else [start])
            rows.setdefault(form.question, set()).add(row)
            kind: Kind = "n-gram" if start is None else "exact"
            jaccard = _jaccard(form.words, text_words(chunks[row].indexed), size)
            leak = _leak(questions[form.question].id, chunks[row], kind, overlap, jaccard)
            _keep_stronger(best, form.question, leak)
    return {place: replace(leak, places=len(rows[place])) for place, leak in best.items()}


def _overlap(grams: Grams, form: int, places: Mapping[int, int]) -> float:
    """The share of a form's grams that stand in these places."""
    return len(set(places.values())) / grams.counts[form]


def _whole(form: Sequence[str], text: Sequence[str], places: Mapping[int, int]) -> int | None:
    """Where the whole form stands in the text, None where only parts of it do."""
    for place in sorted(places):
        if places[place] == 0 and tuple(text[place : place + len(form)]) == tuple(form):
            return place
    return None


def _jaccard(form: Sequence[str], chunk: Sequence[str], size: int) -> float:
    size = min(size, len(form))
    a, b = (
        {tuple(text[i : i + size]) for i in range(len(text) - size + 1)} for text in (form, chunk)
    )
    return len(a & b) / len(a | b)


def _keep_stronger(best: dict[int, Leak], place: int, leak: Leak) -> None:
    before = best.get(place)
    if before is None or _strength(leak) > _strength(before):
        best[place] = leak


def _strength(leak: Leak) -> tuple[int, float]:
    return -_KINDS.index(leak.kind), leak.overlap


def _leak(question: str, chunk: Chunk, kind: Kind, overlap: float, jaccard: float = 0.0) -> Leak:
    return Leak(question, chunk.id, chunk.source, chunk.heading, kind, overlap, jaccard)


# --- documents, put together again


@dataclass(frozen=True)
class _Segment:
    """Neighbouring chunks of a document as one text in normal form; `ends` of each chunk in it."""

    rows: Sequence[int]
    text: str
    ends: Sequence[int]

    @classmethod
    def of(cls, rows: Sequence[int], pieces: Sequence[str]) -> _Segment:
        plain = [normal(piece) for piece in pieces]
        return cls(rows, "".join(plain), list(accumulate(map(len, plain))))

    @property
    def words(self) -> list[str]:
        return normal_words(self.text)

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
    """Where a run ends that reaches so many characters beyond its own chunks."""
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
    """What a chunk adds to the one before it: the text that both hold stands once."""
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
    cosine: float,
) -> Iterator[tuple[int, Leak]]:
    if len(vectors) != len(questions):
        raise ValueError(f"{len(vectors)} vectors for {len(questions)} questions")
    for start in range(0, len(questions), _BATCH):
        nearest = dense(vectors[start : start + _BATCH], 1)
        for place, found in enumerate(nearest, start):
            for row, score in found[:1]:
                if score >= cosine:
                    yield place, _leak(questions[place].id, chunks[row], "near", float(score))
