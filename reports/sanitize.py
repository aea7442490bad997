"""Sanitising of foreign text before it is laid out: cut, and without control characters.

Escaping for HTML or Markdown is the renderer's work; this is what comes before it.
"""

from __future__ import annotations

from domainlift.text.display import printable


def line(text: object, most: int = 200) -> str:
    """One line of at most `most` characters and a note on the rest."""
    cut, more = _cut(str(text), most)
    return printable(" ".join(cut.split())) + more


def block(text: object, most: int = 2000) -> str:
    """Several lines of at most `most` characters and a note on the rest; tabs become blanks."""
    cut, more = _cut(str(text), most)
    return "\n".join(printable(_blanks(each)) for each in cut.splitlines()) + more


def _cut(text: str, most: int) -> tuple[str, str]:
    """Cut before anything else looks at the text, which may be a megabyte long."""
    if len(text) <= most:
        return text, ""
    return text[:most], f" … ({len(text) - most:,} more characters)"


def _blanks(text: str) -> str:
    return "".join(" " if c.isspace() else c for c in text)
