"""Splitter of documents into chunks that fit the embedding model.

A chunk's end is guessed from how many characters a token has taken so far, moved back to where
the text breaks, and counted: one or two counts per chunk, however long the document is.
LangChain's splitters count every piece on every level, and cannot promise a limit in tokens.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from domainlift.errors import Misuse
from rag.base import Chunk
from rag.corpus.documents import BETWEEN

if TYPE_CHECKING:
    from langchain_core.documents import Document

SIZE = 200
LIMIT = 256
SMALLEST = 32
#: A chunk never holds more characters per token of its size: some tokenizers take a word of any
#: length for one token.
WIDEST = 12
_USUAL = 4.0  # characters per token, before anything is counted
_SHORT = 0.25  # of the size: a shorter last piece joins the one before, where it fits
_FULL = 0.75  # of the size: enough, no need to look for more
_HEADING = 1 / 3  # of the size: the most that a heading may take
_TRIES = 6

_EVEN = 1.8  # chunks: what is left and needs fewer is divided into halves, not into one and a rest
_NEARLY = 1.15  # chunks: what is left and is thought to need fewer is tried as one first

_SENTENCE = re.compile(
    r"(?<!\be\.g)(?<!\bi\.e)(?<!\b[A-Z])(?<!\b(?:Dr|Mr|St|vs|cf|al|ca|no))(?<!\b(?:Mrs|Fig|etc))"
    r"[.!?…]+[\"'”’)\]]*(?=\s+[^\sa-z])|[。！？]"
)
_VISIBLE = re.compile(r"\S")
_SPACES = " \n\t\u3000"
Count = Callable[[str], int]


def split_text(
    document: Document, count: Count, size: int = SIZE, limit: int = LIMIT
) -> list[Chunk]:
    """Cut a document at paragraphs, sentences, words or, at last, characters.

    Each chunk, with its heading, has at most `size` tokens as `count` counts them, and never
    more than `limit`. Every character but white space lies in one chunk.
    """
    size = min(size, limit)
    if size < SMALLEST:
        raise Misuse(f"chunks of {size} tokens are too small", f"use {SMALLEST} or more")
    text = document.page_content
    given = str(document.metadata.get("heading", ""))
    heading, fixed = _shortened(given, count, int(size * _HEADING))
    content = hashlib.sha256(f"{given}\0{text}".encode("utf-8", "replace")).hexdigest()[:16]
    whole = Chunk(
        text="",
        source=str(document.metadata.get("source", "")),
        heading=heading,
        licence=str(document.metadata.get("licence", "")),
        document=content,
    )
    cutter = _Cutter(text, whole, count, size, fixed)
    return [replace(whole, text=text[a:b], offset=a) for a, b in cutter.spans()]


@dataclass
class _Cutter:
    """State of the cutting of one text."""

    text: str
    whole: Chunk
    count: Count
    size: int
    fixed: int  # tokens of the heading and the special ones, about: what is counted decides

    def __post_init__(self) -> None:
        self.ratio = _USUAL
        self.stop = len(self.text.rstrip())
        self.last = 0
        self.room = max(1, self.size - self.fixed)

    def spans(self) -> list[tuple[int, int]]:
        """Start and end of each chunk."""
        spans: list[tuple[int, int]] = []
        start = self._next(0)
        while start < self.stop:
            end = self._end(start)
            spans.append((start, start + len(self.text[start:end].rstrip())))
            start = self._next(end)
        if len(spans) > 1 and self.last <= self.room * _SHORT:
            start, end = spans[-2][0], spans[-1][1]
            if end - start <= WIDEST * self.size and self._tokens(start, end) <= self.size:
                spans[-2:] = [(start, end)]
        return spans

    def _next(self, start: int) -> int:
        found = _VISIBLE.search(self.text, start)
        return self.stop if found is None else found.start()

    def _tokens(self, start: int, end: int) -> int:
        return self.count(replace(self.whole, text=self.text[start:end]).indexed)

    def _end(self, start: int) -> int:
        """The end of the chunk that starts here: the furthest good break that fits."""
        widest = min(self.stop, start + WIDEST * self.size)
        wanted = self._wanted(start)
        guess = min(widest, start + max(1, int(wanted * self.ratio)))
        good, too_far = 0, False
        for _ in range(_TRIES):
            end = self._break(start, guess)
            if end <= good:
                break
            tokens = self._tokens(start, end) - self.fixed
            length = end - start
            self.ratio = length / max(1, tokens)
            if tokens > self.room:
                too_far = True
                halves = end == self.stop and tokens < _EVEN * self.room
                wanted = tokens * 0.55 if halves else self.room * 0.95
                guess = min(end - 1, start + max(1, int(wanted * self.ratio)))
                continue
            good, self.last = end, tokens
            if too_far or end == widest or tokens >= _FULL * wanted:
                break
            guess = min(widest, start + int(wanted * self.ratio * 0.97))
        return good if good > 0 else self._halved(start, guess)

    def _wanted(self, start: int) -> float:
        """Tokens that the next chunk should have, so that the last two are of one length."""
        left = (self.stop - start) / self.ratio
        if left <= _NEARLY * self.room:
            return left + 1
        return left * 0.55 if left < _EVEN * self.room else self.room

    def _break(self, start: int, guess: int) -> int:
        """The best place to end at or before `guess`."""
        if guess >= self.stop:
            return self.stop
        length = guess - start
        for mark in ("\n\n", "\n"):
            found = self.text.rfind(mark, start + int(length * 0.6) + 1, guess + len(mark))
            if found > start:
                return found
        return self._sentence(start, guess) or self._word(start, guess)

    def _sentence(self, start: int, guess: int) -> int | None:
        first = start + int((guess - start) * 0.4) + 1
        ends = [found.end() for found in _SENTENCE.finditer(self.text, first, guess + 3)]
        return max((end for end in ends if end <= guess), default=None)

    def _word(self, start: int, guess: int) -> int:
        found = max(self.text.rfind(space, start + 1, guess + 1) for space in _SPACES)
        return found if found > start else guess

    def _halved(self, start: int, guess: int) -> int:
        """The last resort, where a text's tokens are spread very unevenly."""
        length = guess - start
        while length > 1 and self._tokens(start, start + length) > self.size:
            length //= 2
        return start + max(1, length)


def _shortened(heading: str, count: Count, most: int) -> tuple[str, int]:
    """Cut a long heading from the left, since its end is nearest to the text; count its tokens."""
    heading = heading[-most * WIDEST :]
    tokens = count(heading)
    while heading and tokens > most:
        _, between, rest = heading.partition(BETWEEN)
        heading = rest if between else _three_quarters(heading.removeprefix("… "))
        tokens = count(heading)
    return heading, tokens


def _three_quarters(heading: str) -> str:
    rest = heading[len(heading) // 4 + 1 :]
    rest = rest.partition(" ")[2] or rest
    return f"… {rest}" if rest else ""
