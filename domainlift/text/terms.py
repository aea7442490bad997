"""Terms of a text: what a search compares, on both sides of it.

Words of the normal form without stop words, stemmed as English ones. Signs that belong to a name
stay ("c++", "f#", ".net", "a*"); what a hyphen, dot or ampersand joins is there in parts and
as one ("node", "js", "nodejs"), as Lucene's WordDelimiterFilter has it. A Latin word with accents
is there without them too ("café", "cafe"): each finds the other, and itself sooner. In scripts that
put no spaces between words, terms are overlapping pairs of characters, as in Lucene's CJKAnalyzer,
and triples in alphabets of that kind; Korean gets pairs too, because its words end in particles.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import cache

from domainlift.optional import need
from domainlift.text.normalise import (
    normal_form,
    spaced_word,
    unspaced_letter,
    without_accents,
    words,
)

#: Raised with every change of what `analysed` gives: an index of another version is stale.
ANALYSER = 4

# Words that stand in any text; questions are full of them.
_STOP = frozenset(
    words("""
    a about after all also am an and any are as at be because been before being both but by can
    could did do does during each either for from had has have he her his how if in into is it its
    likely may might more most must neither no nor not of on one only or other our she should so
    some such than that the their them then there these they this those through to under until was
    we were what when where which while who whom whose why will with would you your following
    eg ie
    """)
)
_JOINT = re.compile(r"[-\u2010._&]")
_APOSTROPHE = re.compile(r"['’]")
_NUMBER = re.compile(r"\.?\d+(?:[.,]\d+)*")
_HANGUL = re.compile(r"[\uac00-\ud7af]+|[^\uac00-\ud7af]+")
_SIGNS = re.compile(r"[+#*]+$")

Stem = Callable[[str], str]


def terms_of(text: str) -> list[str]:
    """The terms of a text in their order."""
    return next(analysed([text]))


def analysed(texts: Iterable[str], *, indexed: bool = False) -> Iterator[list[str]]:
    """Yield the terms of each text.

    With `indexed`, scripts without spaces also give the next shorter runs of characters, so that a
    query finds one that is a single word of one character.
    """
    # A stemmer of this call's own: one may not be shared by threads.
    stem = need("Stemmer").Stemmer("english").stemWord
    known: dict[str, Sequence[str]] = {}
    for text in texts:
        terms: list[str] = []
        for name in _names().findall(normal_form(text)):
            if name not in known:
                known[name] = list(_terms(name, stem, indexed))
            terms += known[name]
        yield terms


def is_extra(term: str) -> bool:
    """Whether a term may be missing where its word is there.

    It is a run of characters, which may straddle two words, or a form with accents.
    """
    run = "\uac00" <= term[0] <= "\ud7af" or _letters().match(term) is not None
    return run or without_accents(term) != term


@cache
def _names() -> re.Pattern[str]:
    """Words with the signs that belong to them, and runs of scripts without spaces."""
    word = spaced_word()
    joint = r"(?:[-\u2010._&'’]|(?<=\d),(?=\d))"
    letter_star = r"(?<![\w*])[^\W\d_]\*(?![\w*])"
    signs = r"(?:\+\+|#|\+(?!\w))?"
    return re.compile(rf"{letter_star}|\.?{word}(?:{joint}{word})*{signs}|(?:{unspaced_letter()})+")


@cache
def _letters() -> re.Pattern[str]:
    return re.compile(unspaced_letter())


def _terms(name: str, stem: Stem, indexed: bool) -> Iterator[str]:
    letters = _letters().findall(name)
    if letters:
        yield from _runs(letters, 3 if name[0] < "\u1800" else 2, indexed)
    elif _NUMBER.fullmatch(name):
        yield ("0" + name if name[0] == "." else name).replace(",", "")
    else:
        yield from _of_words(name, stem, indexed)


def _of_words(name: str, stem: Stem, indexed: bool) -> Iterator[str]:
    bare = _SIGNS.sub("", name)
    joined = [_without_endings(part) for part in _JOINT.split(bare.lstrip("."))]
    parts = [part for part in joined if part]
    signed = name[len(bare) :]
    if _is_dotted(parts):
        parts = ["".join(parts)]
    coded = any(part.isdigit() for part in parts)
    for part in parts:
        # The C of C-14 and of C++ is no C.
        letter = len(part) == 1 and part.isalpha()
        if part not in _STOP and not (letter and (coded or signed)):
            yield from _of_word(part, stem, indexed)
    if len(parts) > 1 and not all(part.isdigit() for part in parts):
        yield stem(without_accents("".join(parts)))
    if signed and parts:
        yield parts[-1] + signed
    if name[0] == ".":
        yield name


def _is_dotted(parts: Sequence[str]) -> bool:
    """Whether these are letters of an abbreviation: u.s, r&d."""
    short = len(parts) > 1 and all(len(part) == 1 for part in parts)
    return short and any(part.isalpha() for part in parts)


def _of_word(word: str, stem: Stem, indexed: bool) -> Iterator[str]:
    for piece in _HANGUL.findall(word):
        if piece[0] >= "\uac00":
            yield from _runs(piece, 2, indexed)
            continue
        yield stem(piece)
        plain = without_accents(piece)
        # "thé" is no article, and "ñ" no "n".
        if plain != piece and len(plain) > 1 and plain not in _STOP:
            yield stem(plain)


def _without_endings(word: str) -> str:
    """A word without the letters that an apostrophe parts from it: cell's, l'eau, they'll."""
    return max(_APOSTROPHE.split(word), key=len)


def _runs(letters: Sequence[str], size: int, indexed: bool) -> Iterator[str]:
    """Overlapping runs of so many letters; with `indexed`, of one less too."""
    for length in sorted({min(size, len(letters)), *([size - 1] if indexed else [])}):
        for start in range(len(letters) - length + 1):
            yield "".join(letters[start : start + length])
