"""Normal forms of text, in which texts and questions are compared."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence
from typing import Protocol, TypeVar

_WORD = re.compile(r"[^\W_]+")
_WORD_OR_SIGN = re.compile(r"[^\W_]+|[-+*/^=<>%×÷−]")
_WITHOUT_WIDTH = dict.fromkeys(map(ord, "\u00ad\u200b\u200c\u200d\u2060\ufeff"))

#: What copies of a question have in common.
DedupKey = tuple[str, tuple[str, ...]]


def normal_form(text: str) -> str:
    """NFKC, case folded, without characters that have no width."""
    if text.isascii():
        return text.lower()
    folded = unicodedata.normalize("NFKC", text).translate(_WITHOUT_WIDTH).casefold()
    return unicodedata.normalize("NFKC", folded)


def words(text: str) -> list[str]:
    """The words of a text's normal form: runs of letters and digits."""
    return split_words(normal_form(text))


def words_and_signs(text: str) -> list[str]:
    """The words of a text's normal form and its signs of arithmetic, which tell sums apart."""
    return _WORD_OR_SIGN.findall(normal_form(text))


def contains_run(text: Sequence[str], run: Sequence[str]) -> bool:
    """Whether these words stand in a text's words one after another."""
    return f" {' '.join(run)} " in f" {' '.join(text)} "


def split_words(normal: str) -> list[str]:
    """The words of a text that is in normal form."""
    return _WORD.findall(normal)


def word_starts(normal: str) -> list[int]:
    """The character at which each of the `split_words` begins."""
    return [match.start() for match in _WORD.finditer(normal)]


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
