"""Sentence splitter, good enough for exercises."""

from __future__ import annotations

import re
from collections.abc import Iterator

# A sentence ends at a mark before white space and a capital letter or a digit.
_END = re.compile(r"(?<=[.!?])([\"”’)\]]*)\s+(?=[\"“‘(\[]*[A-Z0-9])")
# What ends with a dot, and not the sentence.
_SHORT = re.compile(
    r"(?:\b(?:e\.g|i\.e|etc|cf|v|vs|ca|Fig|Figs|Eq|No|Dr|Mr|Mrs|Ms|St|Prof|Jr|Sr|approx|al"
    r"|Gen|Gov|Sen|Rep|Col|Capt|Lt|Sgt|Rev|Inc|Ltd|Co|Corp|pp|Vol|Mt)"
    r"|\b[A-Z](?:\.[A-Z])*)\.$"
)


def sentences(text: str) -> Iterator[str]:
    """Yield the sentences of a text; what stands between two ends is given back to the letter."""
    for paragraph in text.split("\n"):
        start = 0
        for end in _END.finditer(paragraph):
            held = paragraph[start : end.end(1)]
            if not _SHORT.search(held):
                yield held.strip()
                start = end.end()
        if paragraph[start:].strip():
            yield paragraph[start:].strip()
