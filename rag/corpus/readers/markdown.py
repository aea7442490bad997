"""Reader of Markdown: one section per heading, without its markup."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from typing import TYPE_CHECKING

from rag.corpus.readers.base import Block, Section, SourceFile, fold
from rag.corpus.readers.html import html_to_text as plain_html
from rag.corpus.readers.text import clean_line, clean_text, decode, read_bytes

if TYPE_CHECKING:
    from markdown_it import MarkdownIt
    from markdown_it.token import Token

#: A longer paragraph is taken as it is: finding markup in it may take the square of its length.
LONGEST = 50_000
_MARKERS = re.compile(r"\{:[^}\n]*\}|\{#[\w:. -]+\}|\{% ?(?:end)?raw ?%\}")
_FRONT = re.compile(r"---\n(.*?)\n(?:---|\.\.\.)\n", re.DOTALL)
_FRONT_TITLE = re.compile(r"^title:\s*[\"']?(.+?)[\"']?\s*$", re.MULTILINE)
_ENDS = ("<br", "</p", "</li", "</div")
_ALT_WORDS = 3  # a shorter description of an image is a name, not a sentence


def read_markdown(file: SourceFile) -> Iterator[Section]:
    """Read a Markdown file; its first title leads the headings of all its sections."""
    path = file.local_path
    text = clean_text(decode(path, read_bytes(path)))
    front = _FRONT.match(text)
    if front is None:
        return fold(_blocks(text))
    title = _FRONT_TITLE.search(front[1])
    return fold(_blocks(text[front.end() :]), clean_line(title[1]) if title is not None else "")


def markdown_to_text(text: str) -> str:
    """Reduce Markdown to its text, headings included."""
    return "\n\n".join(block for _, block in _blocks(text) if block)


@cache
def _parser() -> MarkdownIt:
    from markdown_it import MarkdownIt

    parser = MarkdownIt("commonmark").enable("table")
    # What stands within paragraphs is parsed one by one, below, so that it can be bounded.
    parser.core.ruler.disable("inline")
    return parser


def _blocks(text: str) -> Iterator[Block]:
    env: dict[str, object] = {}
    tokens = iter(_parser().parse(text, env))
    for token in tokens:
        if token.type == "heading_open":
            yield int(token.tag[1]), clean_line(_inline(next(tokens).content, env, heading=True))
        elif token.type == "html_block":
            yield 0, plain_html(token.content)
        elif token.type in ("fence", "code_block"):
            yield 0, token.content.strip("\n")
        elif token.type in ("bullet_list_open", "ordered_list_open"):
            yield 0, _items(_until(tokens, token), env)
        elif token.type == "table_open":
            yield 0, _rows(_until(tokens, token), env)
        elif token.type == "inline":
            yield 0, _inline(token.content, env)


def _until(tokens: Iterator[Token], opening: Token) -> Iterator[Token]:
    closing = opening.type.replace("_open", "_close")
    for token in tokens:
        if token.type == closing and token.level == opening.level:
            return
        yield token


def _items(tokens: Iterable[Token], env: dict[str, object]) -> str:
    """One line per item; a list in a list is told apart by its indentation."""
    lines: list[str] = []
    depth, fresh = 0, False
    for token in tokens:
        depth += token.type in ("bullet_list_open", "ordered_list_open")
        depth -= token.type in ("bullet_list_close", "ordered_list_close")
        fresh = fresh or token.type == "list_item_open"
        text = _inline(token.content, env) if token.type == "inline" else token.content.rstrip()
        if text.strip():
            mark = "- " if fresh else "  "
            lines.append("  " * depth + mark + (text.strip() if fresh else text))
            fresh = False
    return "\n".join(lines)


def _rows(tokens: Iterable[Token], env: dict[str, object]) -> str:
    rows: list[list[str]] = []
    for token in tokens:
        if token.type == "tr_open":
            rows.append([])
        elif token.type == "inline":
            rows[-1].append(clean_line(_inline(token.content, env)))
    return "\n".join(" | ".join(row) for row in rows if any(row))


def _inline(content: str, env: dict[str, object], *, heading: bool = False) -> str:
    if len(content) > LONGEST:
        return content
    pieces: list[str] = []
    tokens: list[Token] = []
    _parser().inline.parse(content, _parser(), env, tokens)
    for token in tokens:
        if token.type in ("text", "text_special"):
            pieces.append(_MARKERS.sub("", token.content))
        elif token.type == "code_inline":
            pieces.append(token.content)
        elif token.type in ("softbreak", "hardbreak"):
            pieces.append(" " if token.type == "softbreak" else "\n")
        elif token.type == "image" and not heading and len(token.content.split()) >= _ALT_WORDS:
            pieces.append(token.content)
        elif token.type == "html_inline" and token.content.lower().startswith(_ENDS):
            pieces.append("\n")
    return "".join(pieces).strip()
