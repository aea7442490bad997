"""Contamination check: benchmark questions that occur in texts, by the words of both.

exact    the whole question, or the question followed by its options (bare, or labelled A B C or
         1 2 3), stands in the text word for word.
n-gram   the text holds at least 70 % of the question's 13-grams.

Published practice counts 13-grams: GPT-3 (Brown et al. 2020, appendix C) takes one shared gram
as a collision and looks at texts of any length by grams between 8 and 13 words; CompactDS (2025)
drops passages whose 13-gram Jaccard index |Q ∩ C| / |Q ∪ C| with a question is above 0.7. Between
a question of 30 words and a chunk of 150 that index is at most 18 / 138, so it can fire only where
a passage is nothing but the question. Containment, |Q ∩ C| / |Q|, asks the same of the question
alone and does not depend on how documents are cut: it decides, at the same 0.7. One shared gram
would be too little here: a question may quote a law or a poem that a good document quotes too.

A question of less than 13 words is one gram as it stands. It is looked for without its options
only where it has six words or more, one of which says what it is about ("Which of the following
is true?" has none), and eight where it does not ask, for "The Voting Rights Act of 1965", of
which the options say more, stands in every good book. Training rows are compared more strictly:
any question of four words or signs that a row holds word for word, and any shorter one that is a
whole line of it.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from domainlift.text.ngrams import NgramIndex
from domainlift.text.normalise import contains_run, words, words_and_signs
from domainlift.types import Question

MatchKind = Literal["exact", "n-gram"]
Item = TypeVar("Item")

NGRAM = 13
CONTAINMENT = 0.7
_MIN_WORDS = 6
_MIN_WORDS_OF_A_STEM = 8
_MIN_WORDS_WITHIN_A_LINE = 4
_LINE_LABEL = re.compile(r"^\s*\w+:\s+")


@dataclass(frozen=True)
class Match:
    """A question that occurs in a text.

    `question` is its row in the index, and `wording` the words that were looked for: those of the
    question, or of the question and its options. `overlap` is the share of the wording's n-grams
    that the text holds. `places` are word positions in the text: where the whole wording begins,
    else where each of its n-grams does. `short` says that the question is no evidence by itself.
    """

    question: int
    kind: MatchKind
    wording: Sequence[str]
    overlap: float
    places: Sequence[int]
    short: bool = False


class QuestionIndex:
    """Index of the wordings of questions, made once for any number of texts.

    `short` adds the bare questions that are too short to be evidence by themselves; they match
    only whole, and `contaminated_rows` compares them once more, with their signs.
    """

    def __init__(self, questions: Sequence[Question], *, short: bool = False) -> None:
        self.questions = tuple(questions)
        self._wordings = [
            wording
            for row, question in enumerate(questions)
            for wording in _wordings(row, question)
            if short or not wording.short
        ]
        self._ngrams = NgramIndex([wording.words for wording in self._wordings], NGRAM)

    @property
    def longest(self) -> int:
        """Characters of the longest wording, its words joined by spaces."""
        return max((len(" ".join(wording.words)) for wording in self._wordings), default=0)

    def search(
        self, texts: Iterable[tuple[Item, Sequence[str]]]
    ) -> Iterator[tuple[Item, list[Match]]]:
        """Yield the texts, each an item and its words, that hold a question, with its matches."""
        for item, text, hits in self._ngrams.scan(texts):
            candidates = (self._match(number, text, places) for number, places in hits.items())
            matches = [match for match in candidates if match is not None]
            if matches:
                yield item, matches

    def _match(self, number: int, text: Sequence[str], hits: Mapping[int, int]) -> Match | None:
        wording = self._wordings[number]
        overlap = len(set(hits.values())) / self._ngrams.counts[number]
        start = _whole(wording.words, text, hits)
        if start is not None:
            return Match(wording.question, "exact", wording.words, overlap, (start,), wording.short)
        if overlap < CONTAINMENT or wording.short:
            return None
        return Match(wording.question, "n-gram", wording.words, overlap, tuple(hits))


def contaminated_rows(texts: Sequence[str], index: QuestionIndex) -> list[bool]:
    """Whether each of these training rows holds a question of the index."""
    contaminated = [False] * len(texts)
    for row, matches in index.search((row, words(text)) for row, text in enumerate(texts)):
        contaminated[row] = any(
            not match.short or _holds_short(texts[row], index.questions[match.question].text)
            for match in matches
        )
    return contaminated


def _holds_short(text: str, question: str) -> bool:
    """Whether a short question stands in a text, signs included, or is one of its lines."""
    sought = words_and_signs(question)
    if len(sought) >= _MIN_WORDS_WITHIN_A_LINE:
        return contains_run(words_and_signs(text), sought)
    lines = text.split("\n")
    return any(words_and_signs(_LINE_LABEL.sub("", line)) == sought for line in lines)


def _whole(wording: Sequence[str], text: Sequence[str], hits: Mapping[int, int]) -> int | None:
    """The first place at which the whole wording stands, None where only parts of it do."""
    for place in sorted(hits):
        if hits[place] == 0 and tuple(text[place : place + len(wording)]) == tuple(wording):
            return place
    return None


# --- wordings


@dataclass(frozen=True)
class _Wording:
    """One way in which a question may stand in a text."""

    question: int
    words: tuple[str, ...]
    short: bool = False


# Words that many questions share and that do not say what one is about.
_GENERIC = frozenset(
    words("""
    a above according all an and answer are as at be best below by can choice choose consider
    correct correctly describe described describes do does each either equal equals etc example
    examples except false figure following for from given has have how if in incorrect is it its
    least likely made many may most must none not of on one only option options or other part
    passage question refer refers said select shown some statement statements such text that the
    their them these they this those to true two type untrue used using was were what when where
    which who whom whose why will with would you
    """)
)
_QUESTION_WORDS = frozenset(
    ["what", "when", "where", "which", "who", "whom", "whose", "why", "how"]
)
_QUESTION_MARKS = frozenset("?¿؟？")
_OPTION_LABELS = ("abcdefghijklmnopqrstuvwxyz", [str(number) for number in range(1, 27)])


def _wordings(row: int, question: Question) -> Iterator[_Wording]:
    bare = words(question.text)
    options = [words(option) for option in question.options]
    together = [*bare, *(word for option in options for word in option)]
    asks = not _QUESTION_MARKS.isdisjoint(question.text) or not _QUESTION_WORDS.isdisjoint(bare)
    if _is_distinctive(bare, _MIN_WORDS if asks else _MIN_WORDS_OF_A_STEM):
        yield _Wording(row, tuple(bare))
    elif bare:
        yield _Wording(row, tuple(bare), short=True)
    if options and _is_distinctive(together, _MIN_WORDS):
        yield _Wording(row, tuple(together))
        for labels in _OPTION_LABELS:
            labelled = [w for name, o in zip(labels, options, strict=False) for w in (name, *o)]
            yield _Wording(row, (*bare, *labelled))


def _is_distinctive(wording: Sequence[str], fewest: int) -> bool:
    return len(wording) >= fewest and not _GENERIC.issuperset(wording)
