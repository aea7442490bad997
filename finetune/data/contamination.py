"""Rows that hold a question of a benchmark: the simplest rule, word for word.

Whoever can count n-grams hands in a finder of its own.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence

from finetune.data.cleaning import words

#: Says of each text whether it holds a question of a benchmark.
Leaked = Callable[[Sequence[str]], Sequence[bool]]

#: Shorter questions are found only where they are a whole line.
_ANCHOR = 4
_LABEL = re.compile(r"^\s*\w+:\s+")


def exact_finder(questions: Iterable[str]) -> Leaked:
    """Find the texts in which one of the questions stands word for word."""
    long: dict[tuple[str, ...], list[tuple[str, ...]]] = defaultdict(list)
    short: set[tuple[str, ...]] = set()
    for question in questions:
        found = tuple(words(question))
        if len(found) >= _ANCHOR:
            long[found[:_ANCHOR]].append(found)
        elif found:
            short.add(found)

    def leaked(texts: Sequence[str]) -> list[bool]:
        return [_holds(text, long) or _has_line(text, short) for text in texts]

    return leaked


def _holds(text: str, sought: dict[tuple[str, ...], list[tuple[str, ...]]]) -> bool:
    found = tuple(words(text)) if sought else ()
    return any(
        found[place : place + len(question)] == question
        for place in range(len(found) - _ANCHOR + 1)
        for question in sought.get(found[place : place + _ANCHOR], ())
    )


def _has_line(text: str, sought: set[tuple[str, ...]]) -> bool:
    lines = text.split("\n") if sought else []
    return any(tuple(words(_LABEL.sub("", line))) in sought for line in lines)
