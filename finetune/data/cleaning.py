"""Cleaning: one form of texts and rows, and the reasons to reject a row."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any

from benchmarks.prompts import question_block
from domainlift.text.display import one_line
from engines.base import Message
from finetune.data.rows import Row

#: A row of fewer or more characters than these, question and answer together, is left out.
SHORTEST = 8
LONGEST = 40_000
_BREAKS = re.compile(r"\r\n?|[\u0085\u2028\u2029]")
# Control characters but line feeds and tabs, and halves of surrogate pairs, which are no UTF-8.
_DROPPED = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff]+")


def clean_rows(text: str) -> str:
    """The text in NFC with line feeds only and without control characters."""
    text = _DROPPED.sub("", _BREAKS.sub("\n", text))
    return unicodedata.normalize("NFC", text)


def clean_row(row: Row) -> Row:
    """The row with all its texts clean, trimmed where that does not part prompt and answer."""
    chat = bool(row.messages)
    sides = [clean_rows(side).rstrip() for side in (row.completion, row.rejected)]
    completion, rejected = [side.lstrip() for side in sides] if chat else sides
    return replace(
        row,
        prompt=clean_rows(row.prompt).lstrip(),
        completion=completion,
        rejected=rejected,
        messages=tuple(map(_clean_message, row.messages)),
        chain=tuple(map(_clean_message, row.chain)),
        tools=clean_rows(row.tools).strip(),
        source=clean_field(row.source),
        licence=clean_field(row.licence),
    )


def _clean_message(message: Message) -> Message:
    return Message(
        clean_rows(message.role), clean_rows(message.content).strip(), _clean_value(message.extra)
    )


def _clean_value(value: Any) -> Any:
    """The texts in what else a message has, clean."""
    if isinstance(value, str):
        return clean_rows(value)
    if isinstance(value, Mapping):
        return {key: _clean_value(each) for key, each in value.items()}
    return [_clean_value(each) for each in value] if isinstance(value, list) else value


def reject_reason(row: Row) -> str:
    """Why a clean row cannot be learned from, "" where it can."""
    length = len(prompt_text(row)) + len(row.completion)
    if not row.completion.strip():
        return "empty answer"
    if equal_sides(row):
        return "equal sides"
    if length < SHORTEST:
        return "too short"
    # How long a trace may be is counted in tokens.
    return "too long" if length > LONGEST and not row.chain else ""


def equal_sides(row: Row) -> bool:
    """Whether the worse side of a pair says what the better one says."""
    return bool(row.rejected) and row.rejected.strip() == row.completion.strip()


def prompt_text(row: Row) -> str:
    """All that stands before the answer, as text: the turns of a chat, else the prompt."""
    if not row.messages:
        return row.prompt
    return "\n".join(message.content for message in row.asked)


def clean_field(text: str) -> str:
    """The clean text in one line, for a field such as a source or a licence."""
    return one_line(clean_rows(text))


# --- how prompt and answer meet


def open_layout(question: str, answer: str) -> tuple[str, str]:
    """Prompt and completion of a question without options, as an evaluation asks it."""
    return question_block(question.strip()), f" {answer.strip()}"


def join(prompt: str, completion: str) -> str:
    """The completion, after a space where a word would stick to the prompt without one."""
    ends_a_word = prompt[-1:].isalnum() or prompt[-1:] in tuple(".?!:;")
    glued = ends_a_word and completion[:1].isalnum()
    return f" {completion}" if glued and _parts_words(prompt[-1] + completion[0]) else completion


def _parts_words(letters: Iterable[str]) -> bool:
    """Whether these letters are of scripts that put spaces between words."""
    return not any(unicodedata.east_asian_width(c) in "WF" for c in letters)
