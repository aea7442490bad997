"""Exercises made of prose: cloze sentences, and continuations of a section."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from random import Random

from finetune.data.sources.sentences import sentences

BLANK = "____"
#: The words of a sentence that is neither a fragment nor a paragraph.
_FEWEST, _MOST = 8, 40
_PER_DOCUMENT = 3
_SHORTEST_PART = 5
_WORD = re.compile(r"[^\W\d_]+(?:[-'’][^\W\d_]+)*")
# What begins so speaks of something before it, or shows something.
_HANGING = re.compile(
    r"(?:this|that|these|those|it|its|they|their|he|she|his|her|such|here|there|however|thus|also"
    r"|therefore|figure|table|see|note)\b",
    re.IGNORECASE,
)
# A label before a sentence makes it an item of a list.
_PROSE = re.compile(r"(?![^.,:]{1,60}: )[A-Z“\"].*[.!?][\"”’)]*")
_NO_PROSE = re.compile(r"https?://|[{}|<>\\]|_{2,}|\[\d")
_SHORTEST_TERM = 5


def cloze(text: str, heading: str, spread: Counter[str], draw: Random) -> Iterator[tuple[str, str]]:
    """Yield (sentence with a blank, term) for at most three sentences of a section.

    The term is a word of the heading, else the rarest one: `spread` counts for each word the
    documents that hold it.
    """
    heading_terms = _terms(heading.rpartition(" > ")[2])
    good = [sentence for sentence in sentences(text) if _is_exercise(sentence)]
    for sentence in draw.sample(good, min(_PER_DOCUMENT, len(good))):
        term = _key_term(sentence, heading_terms, spread)
        if term:
            blanked = re.sub(rf"\b{re.escape(term)}\b", BLANK, sentence, flags=re.IGNORECASE)
            yield blanked, term


def continuations(text: str, heading: str, draw: Random) -> Iterator[tuple[str, str]]:
    """Yield (heading and beginning, what follows) for one place of a section, if it is prose.

    The completion continues the prompt letter for letter.
    """
    parts = list(sentences(text))
    prose = [_is_prose(each) and len(each.split()) >= _SHORTEST_PART for each in parts]
    length = draw.choice((1, 2))
    starts = [i for i in range(len(parts) - length - 1) if all(prose[i : i + length + 2])]
    if starts:
        start = draw.choice(starts)
        cut = start + length
        head = f"{heading}\n\n" if heading else ""
        yield head + " ".join(parts[start:cut]), " " + " ".join(parts[cut : cut + 2])


def spread_of(texts: Iterable[str]) -> Counter[str]:
    """For each word of five letters or more, in how many of the texts it stands."""
    return Counter(word for text in texts for word in _terms(text))


def _terms(text: str) -> set[str]:
    return {word.lower() for word in _WORD.findall(text) if len(word) >= _SHORTEST_TERM}


def _is_exercise(sentence: str) -> bool:
    return (
        _FEWEST <= len(sentence.split()) <= _MOST
        and _is_prose(sentence)
        and _HANGING.match(sentence) is None
    )


def _is_prose(sentence: str) -> bool:
    return _PROSE.fullmatch(sentence) is not None and _NO_PROSE.search(sentence) is None


def _key_term(sentence: str, heading_terms: set[str], spread: Counter[str]) -> str:
    """The word that is asked for, as it stands in the sentence; "" where none is worth it.

    A word that stands in one text only is more often an oddity than a term.
    """
    words: Sequence[str] = [w for w in _WORD.findall(sentence) if len(w) >= _SHORTEST_TERM]
    named = [word for word in words if word.lower() in heading_terms]
    shared = [word for word in words if spread[word.lower()] > 1]
    for candidates in (named, shared, words):
        if candidates:
            return min(candidates, key=lambda word: (spread[word.lower()], -len(word), word))
    return ""
