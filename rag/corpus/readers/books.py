"""Reader of records that are sections of OpenStax textbooks."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Mapping
from itertools import groupby
from typing import Any

from rag.corpus.readers.base import Section
from rag.corpus.readers.text import clean_line, clean_text

_KEYS = {"book", "path", "module", "title", "section", "text"}
# They tell what will be told, in the words of questions, and so are found instead of it.
_UNREAD_SECTIONS = ("learning objectives", "learning outcomes")
_UNREAD_TITLES = ("preface",)

_LINES = re.compile(
    r'^(?:class="[^"\n]*"(?: title="[^"\n]*"?)?|\* \* \*)$'
    r"|^By the end of this (?:section|chapter)\b.*$",
    re.MULTILINE,
)
# What conversion left: anchors, marks of figures and headings, links, places of references that
# are gone, and formulas told a second time in another notation.
_REMAINS: tuple[tuple[re.Pattern[str], str], ...] = (
    (_LINES, ""),
    (re.compile(r"\{#[\w:.-]*\}"), ""),
    (re.compile(r"^(?:#{1,6} |\[Figure\] ?)", re.MULTILINE), ""),
    (re.compile(r"\[([^\[\]\n]{1,200})\]\[\d+\]"), r"\1"),
    (re.compile(r"\*{1,2}([^\s*](?:[^*\n]{0,98}[^\s*])?)\*{1,2}"), r"\1"),
    (re.compile(r"\bsize 12\{.*"), ""),
    (re.compile(r" ?\(\)"), ""),
    (re.compile(r"(?<=\w) (?=[.,;](?:\s|$))"), ""),
)


def is_section(row: Mapping[str, Any]) -> bool:
    """Whether a record is a section of a book."""
    return row.keys() >= _KEYS and isinstance(row["path"], list)


def section(row: Mapping[str, Any]) -> Section | None:
    """Read a section; None for what holds no knowledge of the book's field."""
    named, title = str(row["section"]), str(row["title"])
    if named.lower() in _UNREAD_SECTIONS or title.lower() in _UNREAD_TITLES:
        return None
    headings = tuple(_headings([*map(str, row["path"]), title, *named.split(" / ")]))
    return Section(
        text=_text(str(row["text"])),
        headings=headings,
        record="/".join(part for part in (str(row["module"]), _plain(named)) if part),
        licence=clean_line(str(row.get("license", ""))),
        title=clean_line(str(row["book"])),
    )


def _headings(parts: list[str]) -> Iterator[str]:
    return (heading for heading, _ in groupby(map(_plain, parts)) if heading)


def _plain(text: str) -> str:
    return clean_line(_text(text))


def _text(text: str) -> str:
    text = html.unescape(text)
    for pattern, kept in _REMAINS:
        text = pattern.sub(kept, text)
    return re.sub(r"\n{2,}", "\n", clean_text(text)).strip()
