"""Normal forms of text, in which texts and questions are compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from functools import cache
from typing import Protocol, TypeVar

# Letters of Thai, Lao, Burmese, Khmer, Chinese and Japanese, which put no spaces between words.
UNSPACED = (
    "\u0e01-\u0e30\u0e32\u0e33\u0e40-\u0e46\u0e50-\u0e59"
    "\u0e81-\u0eb0\u0eb2\u0eb3\u0ebd\u0ec0-\u0ec6\u0ed0-\u0ed9\u0edc-\u0edf"
    "\u1000-\u102a\u103f-\u1049\u1050-\u1055\u1780-\u17b3\u17d7\u17dc\u17e0-\u17e9"
    "\u3005-\u3007\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff\u31f0-\u31ff"
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U000323af"
)
# Blocks with marks (accents, vowel signs) that no composed letter has, which `\w` leaves out.
_MARKED = ((0x300, 0x1E00), (0x20D0, 0x2100), (0xA66F, 0xA6F2), (0xA800, 0xAC00), (0xFE20, 0xFE30))
# Soft hyphens, joiners, marks of direction, selectors of a glyph.
_WITHOUT_WIDTH = dict.fromkeys(
    (0xAD, *range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2060, 0x2070), 0xFEFF)
) | dict.fromkeys((*range(0xFE00, 0xFE10), *range(0xE0100, 0xE01F0)))
# Vowel points of Arabic and Hebrew, and the Arabic stroke that stretches a word.
_POINTS = (*range(0x64B, 0x660), 0x670, 0x640, *range(0x591, 0x5BE), 0x5BF, *range(0x5C1, 0x5C3))
_WITHOUT_WIDTH |= dict.fromkeys(_POINTS)
# Letters that writers of one language put for one another, as Lucene's normalisers have them.
_ONE_LETTER = str.maketrans("آأإٱىیةکάέήίόύώϊϋΐΰёı", "اااايي\u0647كαεηιουωιυιυеi")
# Latin letters that no accent is taken off, and what is typed where a keyboard lacks them.
_PLAIN_LETTERS = {"æ": "ae", "œ": "oe", "ø": "o", "đ": "d", "ð": "d", "ł": "l", "þ": "th", "ħ": "h"}
_ACCENTS = re.compile("(?<=[a-z])[\u0300-\u036f]+")
_OTHER_DIGIT = re.compile(r"(?![0-9])\d")

#: What copies of a question have in common.
DedupKey = tuple[str, tuple[str, ...]]


def normal_form(text: str) -> str:
    """NFKC, case folded, with digits from 0 to 9, without characters that have no width."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", text).translate(_WITHOUT_WIDTH).casefold()
    folded = unicodedata.normalize("NFKC", folded).replace("i\u0307", "i").translate(_ONE_LETTER)
    return _OTHER_DIGIT.sub(lambda digit: str(unicodedata.decimal(digit[0])), folded)


def without_accents(folded: str) -> str:
    """A text without case with the plain Latin letters: cafe for café, Zurich for Zürich.

    Marks of other scripts stay, because й and が are letters of their own.
    """
    return folded if folded.isascii() else _ACCENTS.sub("", folded.translate(_plain_latin()))


@cache
def _plain_latin() -> dict[int, str]:
    letters = map(chr, (*range(0xDF, 0x250), *range(0x1E00, 0x1F00)))
    bare = {char: _ACCENTS.sub("", unicodedata.normalize("NFD", char)) for char in letters}
    plain = {char: letter for char, letter in bare.items() if letter.isascii()}
    return str.maketrans(plain | _PLAIN_LETTERS)


def words(text: str) -> list[str]:
    """The words of a text's normal form: runs of letters and digits, or one of `UNSPACED`."""
    return split_words(normal_form(text))


def words_and_signs(text: str) -> list[str]:
    """The words of a text's normal form and its signs of arithmetic, which tell sums apart."""
    return _pattern("|[-+*/^=<>%×÷−]").findall(normal_form(text))


def contains_run(text: Sequence[str], run: Sequence[str]) -> bool:
    """Whether these words stand in a text's words one after another."""
    return f" {' '.join(run)} " in f" {' '.join(text)} "


def split_words(normal: str) -> list[str]:
    """The words of a text that is in normal form."""
    return _pattern().findall(normal)


def word_starts(normal: str) -> list[int]:
    """The character at which each of the `split_words` begins."""
    return [match.start() for match in _pattern().finditer(normal)]


@cache
def marks() -> str:
    """Combining marks, as the inside of a character class."""
    found = (chr(code) for block in _MARKED for code in range(*block))
    return "".join(char for char in found if unicodedata.category(char)[0] == "M")


def spaced_word() -> str:
    """The pattern of a word in a script that puts spaces between words."""
    letter = rf"[^\W_{UNSPACED}]"
    return rf"{letter}+(?:[{marks()}]+{letter}*)*"


def unspaced_letter() -> str:
    """The pattern of one letter, with its marks, in a script without spaces."""
    return rf"[{UNSPACED}][{marks()}]*"


@cache
def _pattern(also: str = "") -> re.Pattern[str]:
    return re.compile(f"{spaced_word()}|{unspaced_letter()}{also}")


def dedup_key(text: str, options: Sequence[str]) -> DedupKey:
    """A question without case, white space and the order of its options: copies are equal.

    Compatibility characters stay, unlike in `normal_form`: x² and x2 ask for different things.
    """
    return _even(text), tuple(sorted(map(_even, options)))


class HasWording(Protocol):
    """A question, or a row that was made of one."""

    @property
    def text(self) -> str:
        """The question."""

    @property
    def options(self) -> Sequence[str]:
        """Its options, none where the answer is open."""


_Row = TypeVar("_Row", bound=HasWording)


def without_copies(rows: Iterable[_Row], of: Iterable[HasWording]) -> list[_Row]:
    """The rows that are no copies of other questions, by `dedup_key`."""
    keys = {dedup_key(row.text, row.options) for row in of}
    return [row for row in rows if dedup_key(row.text, row.options) not in keys]


def _even(text: str) -> str:
    return " ".join(text.casefold().split())


def contains(text: str, phrase: str) -> bool:
    """Whether a phrase stands in a text, word for word."""
    return f" {' '.join(words(phrase))} " in f" {' '.join(words(text))} "
