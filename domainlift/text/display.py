"""Foreign text for display: in one line, without control characters."""

from __future__ import annotations


def one_line(text: str, limit: int | None = None) -> str:
    """Collapse white space; of a text longer than `limit` the rest becomes an ellipsis."""
    line = " ".join(text.split())
    return line if limit is None or len(line) <= limit else line[: limit - 1] + "…"


def printable(text: str, substitute: str = "\ufffd") -> str:
    """Replace control characters, line feeds and marks that turn the direction of text."""
    # Marks that turn the direction are format characters, and none of those is printable.
    return "".join(c if c.isprintable() else substitute for c in text)
