"""Tokenizer of the router: words, marks of formulas and short phrases of a text.

Words are in lower case and singular. Every number of a text is the term `0`; a keyword that is
another number, or holds one, means that number alone. Phrases do not reach over the end of a
sentence, so the order of sentences changes nothing. These are not the words of `domainlift.text`:
the weights of every fitted keyword file belong to terms that are cut this way.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence, Set
from itertools import pairwise

#: The term of every number.
ANY = "0"
#: The most words of a phrase.
LONGEST = 3
# Of two patterns that find the same in ASCII, the one without Unicode's classes takes half as long.
_ASCII = re.compile(r"[a-z]+|[0-9]+|[=+^<>*/$|\\]|[.?!;:](?!\S)")
_TOKEN = re.compile(r"[^\W\d_]+|\d+|[=+^<>*/$|\\]|[.?!;:](?!\S)")
_ENDS = frozenset(".?!;:")
_BETWEEN = "\n;\n"
_KEPT = 50_000


class _Singular(dict[str, str]):
    """Word -> term, remembered; emptied when it grows large."""

    def __missing__(self, word: str) -> str:
        if len(self) >= _KEPT:
            self.clear()
        term = ANY if word.isdigit() else singular(word)
        self[word] = term
        return term


_TERMS = _Singular()


def router_words(text: str, *, exact: bool = False) -> list[str]:
    """The words of a text in order, as terms; the end of a sentence is a mark of its own.

    Numbers are the term `0`, or themselves where `exact`.

    >>> router_words("Cells divide. Why?")
    ['cell', 'divide', '.', 'why', '?']
    """
    ascii_ = text.isascii()
    found = _ASCII.findall(text.lower()) if ascii_ else _TOKEN.findall(text.casefold())
    if exact:
        return [word if word.isdigit() else _TERMS[word] for word in found]
    return list(map(_TERMS.__getitem__, found))


def singular(word: str) -> str:
    """A word without the ending of a plural, by a few rules; a stem, not always a word."""
    if len(word) < 4 or not word.endswith("s") or word.endswith(("ss", "us", "is")):
        return word
    if word.endswith("ies") and len(word) > 4:
        return f"{word[:-3]}y"
    return word[:-2] if word.endswith(("sses", "shes", "ches", "xes", "zes")) else word[:-1]


def terms(parts: Sequence[str]) -> tuple[dict[str, None], int]:
    """The distinct words and phrases of a question and its options, and the number of words."""
    words = router_words(_BETWEEN.join(parts))
    single = dict.fromkeys(word for word in words if word not in _ENDS)
    phrases: dict[str, None] = {}
    for length in range(2, LONGEST + 1):
        for run in zip(*(words[start:] for start in range(length)), strict=False):
            if _ENDS.isdisjoint(run):
                phrases[" ".join(run)] = None
    return single | phrases, len(single)


def term_of(phrase: str) -> str:
    """A phrase as a term; ValueError where it holds no word, or too many."""
    words = [word for word in router_words(phrase, exact=True) if word not in _ENDS]
    if not words:
        raise ValueError(f"`{phrase}` holds no word")
    if len(words) > LONGEST:
        raise ValueError(f"`{phrase}` has {len(words)} words; at most {LONGEST} are looked up")
    return " ".join(words)


class Vocabulary:
    """Finds those terms of a text that are known, in one pass over its words.

    What `terms` gives and is known, only faster: sets are cut by the interpreter's own code, and
    three words are put together only where two of them begin a known phrase and its last is there.
    """

    def __init__(self, terms: Iterable[str]) -> None:
        self.terms = tuple(dict.fromkeys(terms))
        runs = [tuple(term.split(" ")) for term in self.terms]
        self._one = {run[0]: n for n, run in enumerate(runs) if len(run) == 1}
        self._two = {run: n for n, run in enumerate(runs) if len(run) == 2}
        self._three = {run: n for n, run in enumerate(runs) if len(run) == LONGEST}
        self._last: dict[tuple[str, ...], set[str]] = {}
        for run in self._three:
            self._last.setdefault(run[:2], set()).add(run[2])
        self._first = frozenset(self._last)
        # Of a set and the keys of a dict, all keys would be looked at.
        self._ones, self._twos = frozenset(self._one), frozenset(self._two)
        self._numbers = any(w.isdigit() and w != ANY for run in runs for w in run)

    def find(self, parts: Sequence[str]) -> tuple[list[int], set[str]]:
        """The places in `terms` of what a question and its options hold, and all their words.

        Places come in order, whatever the order of the sentences.
        """
        text = _BETWEEN.join(parts)
        words = router_words(text)
        single = set(words)
        single -= _ENDS
        places = self._places(words, single)
        if self._numbers and ANY in single:
            exact = router_words(text, exact=True)
            places = list({*places, *self._places(exact, set(exact))})
        places.sort()
        return places, single

    def _places(self, words: Sequence[str], single: Set[str]) -> list[int]:
        places = list(map(self._one.__getitem__, single & self._ones))
        double = set(pairwise(words))
        places += map(self._two.__getitem__, double & self._twos)
        begun = double & self._first
        if begun and any(not single.isdisjoint(self._last[run]) for run in begun):
            triple = set(zip(words, words[1:], words[2:], strict=False))
            places += [self._three[run] for run in triple if run in self._three]
        return places
