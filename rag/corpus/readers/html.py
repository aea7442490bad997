"""Reader of HTML: one section per heading, without scripts, styles and markup."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from domainlift.errors import Malformed
from rag.corpus.readers.base import Block, Section, SourceFile, fold
from rag.corpus.readers.text import clean_line, clean_text, decode, read_bytes

LARGEST = 64 * 2**20
_UNREAD = (
    *("script", "style", "noscript", "template", "svg", "math", "iframe", "object", "nav"),
    *("button", "select", "textarea", "title"),
)
_BLOCKS = (
    *("p", "div", "section", "article", "main", "header", "footer", "aside", "blockquote"),
    *("ul", "ol", "dl", "table", "figure", "figcaption", "form", "details", "summary"),
)
_LINES = ("li", "tr", "dt", "dd", "br", "hr", "caption")
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
# Marks that no text can hold, since control characters are dropped first; none is white space.
_BREAK, _LINE, _HEADING = "\x01", "\x02", "\x03"
_RAW_END = _BREAK + _BREAK
#: Tag -> the marks before and after what it holds.
_MARKS: dict[str, tuple[str, str]] = {
    **dict.fromkeys(_BLOCKS, (_BREAK, _BREAK)),
    **dict.fromkeys(_LINES, (_LINE, _LINE)),
    **{name: (f"{_HEADING}{name[1]}", _HEADING) for name in _HEADINGS},
    **dict.fromkeys(("td", "th"), ("", " | ")),
    "pre": (_BREAK, _RAW_END),
}
_PARTS = re.compile(f"{_HEADING}([1-6])([^{_HEADING}]*){_HEADING}")
_SNIFF = 4096


def read_html(file: SourceFile) -> Iterator[Section]:
    """Read an HTML file; its first heading of level 1, or its title, leads all headings."""
    path = file.local_path
    raw = read_bytes(path)
    if len(raw) > LARGEST:
        what = f"holds more than {LARGEST // 2**20} MB, the most that is read of HTML"
        raise Malformed(path, what, hint="split it into smaller files")
    text = clean_text(_decode(path, raw))
    blocks = list(_blocks(text))
    has_title = any(level == 1 for level, _ in blocks)
    return fold(blocks, "" if has_title else _title(text))


def html_to_text(text: str) -> str:
    """Reduce a piece of HTML to its text, headings included."""
    return "\n".join(block for _, block in _blocks(text) if block)


def _decode(path: Path, raw: bytes) -> str:
    """Decode as the page itself says, where it is not UTF-8."""
    try:
        return decode(path, raw)
    except Malformed:
        declared = re.search(rb"charset\s*=\s*[\"']?([\w-]+)", raw[:_SNIFF])
        name = declared[1].decode("ascii", "replace") if declared is not None else ""
        if not name.lower().startswith(("iso-8859", "windows-125")):
            raise
        return raw.decode("cp1252" if name.lower() == "iso-8859-1" else name, "replace")


def _title(text: str) -> str:
    found = re.search(r"<title[^>]{0,200}>([^<]{1,500})", text, re.IGNORECASE)
    return clean_line(_soup(found[1]).get_text()) if found is not None else ""


def _blocks(text: str) -> Iterator[Block]:
    marked = _marked(_soup(clean_text(text)))
    _, *parts = ["", "0", *_PARTS.split(marked)]
    # Split gives text, level, heading, text, level, heading, …, text.
    yield from _paragraphs(parts[1])
    for level, heading, body in zip(parts[2::3], parts[3::3], parts[4::3], strict=True):
        yield int(level), clean_line(re.sub(f"[{_BREAK}{_LINE}]", " ", heading))
        yield from _paragraphs(body)


def _paragraphs(marked: str) -> Iterator[Block]:
    for paragraph in marked.split(_BREAK):
        lines = (line.strip(" |") for line in paragraph.split(_LINE))
        text = "\n".join(line for line in lines if line)
        if text:
            yield 0, text


def _soup(text: str) -> Any:
    from bs4 import BeautifulSoup, MarkupResemblesLocatorWarning, XMLParsedAsHTMLWarning

    # A tag that never ends would be looked for from each of its beginnings.
    whole = text.rfind(">") + 1
    text = text[:whole] + text[whole:].replace("<", "&lt;")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", MarkupResemblesLocatorWarning)
        warnings.simplefilter("ignore", XMLParsedAsHTMLWarning)
        return BeautifulSoup(text, "html.parser")


def _marked(soup: Any) -> str:
    """The text of a page in one line, with marks where its structure breaks it.

    The tree is walked without recursion and without changing it: pages may be nested deeply.
    """
    pieces: list[str] = []
    walks, ends, raw = [iter(soup.contents)], [""], 0
    while walks:
        node = next(walks[-1], None)
        if node is None:
            walks.pop()
            mark = ends.pop()
            raw -= mark == _RAW_END
            pieces.append(mark)
        elif type(node).__name__ in ("NavigableString", "CData"):
            pieces.append(node.replace("\n", _LINE) if raw else node)
        elif getattr(node, "contents", None) is not None and not _unread(node):
            begin, end = _MARKS.get(node.name, ("", ""))
            raw += end == _RAW_END
            pieces.append(begin)
            walks.append(iter(node.contents))
            ends.append(end)
    return re.sub(r"\s+", " ", "".join(pieces))


def _unread(tag: Any) -> bool:
    return tag.name in _UNREAD or tag.has_attr("hidden")
