"""Token counts by a model's own tokenizer, without loading the model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from domainlift.errors import Misuse

if TYPE_CHECKING:
    from tokenizers import Tokenizer


def load_tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of a folder; it cuts nothing off and fills nothing up."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        raise Misuse(f"`{folder}` has no tokenizer.json", "choose a model with a fast tokenizer")
    tokenizer = Tokenizer.from_file(str(path))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def ending(text: str, count: Callable[[str], int], limit: int) -> str:
    """The longest end of a text, from a word on, that has at most `limit` tokens.

    In an exam the question proper stands at the end, after the text that it is about.
    """
    if count(text) <= limit:
        return text
    words = text.split()
    low, high = 1, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if count(" ".join(words[-middle:])) <= limit:
            low = middle
        else:
            high = middle - 1
    last = " ".join(words[-low:])
    while count(last) > limit:  # one endless word
        last = last[len(last) // 2 :]
    return last
