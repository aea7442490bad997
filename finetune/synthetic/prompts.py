"""Prompts for texts about a passage, the parsing of replies, and the rows made of them.

A fact told once is hardly learned, and the same fact told in several ways is. So the model itself,
with the passage before it, tells it in other ways: it needs to read, not to know.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

from benchmarks.prompts import passage_block
from domainlift.types import Passage
from engines.base import Message, Prompt
from finetune.data.cleaning import clean_rows, open_layout
from finetune.data.rows import Row


@dataclass(frozen=True)
class Excerpt:
    """A passage of a knowledge base that is to be written about, under a licence."""

    passage: Passage
    licence: str = ""


@dataclass(frozen=True)
class GeneratedText:
    """One thing that was written: a text, or the answer to a `question`.

    `whole` is false where the reply ended in the middle of it.
    """

    kind: str
    text: str
    question: str = ""
    whole: bool = True

    @property
    def id(self) -> str:
        """16 hexadecimal digits of what is written."""
        content = json.dumps([self.kind, self.question, self.text], ensure_ascii=False)
        return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()[:16]


@dataclass(frozen=True)
class TextKind:
    """A way of writing about a passage.

    `row` is the kind of the rows that come of it. `opening` begins the reply for a model that
    only continues texts. At most the share `copied` of the 5-grams of its words may stand in the
    passage. `pieces` divides a reply; a reply of `length` tokens per token of the passage and 96
    more is cut off.
    """

    row: str
    instruction: str
    opening: str
    copied: float
    length: float
    pieces: Callable[[str, str, bool], list[GeneratedText]]


def prompt_of(kind: TextKind, excerpt: Excerpt, *, chat: bool) -> Prompt:
    """Ask for one kind; the passage comes first, so that all kinds share its computation."""
    block = passage_block([excerpt.passage])
    request = f"{block}The passage is about {title_of(excerpt)}. {kind.instruction} {_MANNERS}"
    if chat:
        return Prompt(messages=(Message("user", request),))
    return Prompt(text=f"{request}\n\nReply:\n{kind.opening}")


def pieces_of(name: str, reply: str, whole: bool) -> list[GeneratedText]:
    """The texts in a reply; one empty text where there is none.

    A reply that goes on with the prompt's layout is one piece, because no part of it is meant.
    """
    text = clean_rows(reply).strip()
    if is_layout(text):
        return [GeneratedText(name, text, whole=whole)]
    pieces = KINDS[name].pieces(name, text, whole)
    return pieces if pieces else [GeneratedText(name, "", whole=whole)]


def is_layout(text: str) -> bool:
    """Whether a text holds what belongs to a prompt or a chat template only."""
    return _LAYOUT.search(text) is not None


def rows_of(excerpt: Excerpt, pieces: Iterable[GeneratedText], domain: str) -> list[Row]:
    """The rows of one passage: itself, and what was written about it; none without that.

    Texts are learned whole, after the title. Each row is a source of its own, so that validation
    asks in wordings that were not trained.
    """
    texts: dict[str, list[str]] = {}
    made: list[tuple[str, str, str, str]] = []
    for piece in pieces:
        if piece.question:
            pair = open_layout(piece.question, piece.text)
            made.append((piece.id, KINDS[piece.kind].row, *pair))
        else:
            texts.setdefault(piece.kind, []).append(piece.text)
    head = f"{title_of(excerpt)}:"
    whole = [(kind, KINDS[kind].row, head, " " + "\n".join(parts)) for kind, parts in texts.items()]
    if made or whole:
        whole.insert(0, ("passage", "passage", head, " " + excerpt.passage.text))
    place = f"{excerpt.passage.place}{'/' if '#' in excerpt.passage.place else '#'}"
    return [
        Row(prompt, answer, domain, row, f"{place}{excerpt.passage.id}/{name}", excerpt.licence)
        for name, row, prompt, answer in [*whole, *made]
    ]


def title_of(excerpt: Excerpt) -> str:
    """The topic of a passage: its last heading."""
    return excerpt.passage.source.rpartition(" > ")[2].strip(" :") or "this"


def prompts_digest() -> str:
    """The version of the prompts: it changes with every word of them."""
    words = [(name, k.row, k.instruction, k.opening, k.length) for name, k in KINDS.items()]
    return hashlib.sha256(repr([_MANNERS, words]).encode()).hexdigest()[:12]


# --- what replies hold

_LAYOUT = re.compile(r"</?passages>|<\|\w+\|>|^\W*(?:assistant|user|system)\W*$", re.MULTILINE)
_MARK = re.compile(r"\s*(?:[-*•–]|\(?\d{1,2}[.)])\s+")
_PAIR = re.compile(
    r"(?:\*\*)?\bQ(?:uestion)?(?: ?\d+)?(?:\*\*)?[:.](?:\*\*)?(?P<question>.*?)"
    r"\n\W*(?:\d+[.)] )?A(?:nswer)?(?: ?\d+)?(?:\*\*)?[:.](?:\*\*)?(?P<answer>[^\n]*)",
    re.IGNORECASE | re.DOTALL,
)


def _one(name: str, reply: str, whole: bool) -> list[GeneratedText]:
    return [GeneratedText(name, reply, whole=whole)]


def _lines(name: str, reply: str, whole: bool) -> list[GeneratedText]:
    """Each marked line; of a reply without marks, each line."""
    lines = [line for line in reply.split("\n") if line.strip()]
    marked = [line for line in lines if _MARK.match(line)]
    kept = [_MARK.sub("", line, count=1).strip() for line in (marked if marked else lines)]
    return _ending(whole, [GeneratedText(name, line) for line in kept])


def _pairs(name: str, reply: str, whole: bool) -> list[GeneratedText]:
    matches = [(m["question"].strip(), m["answer"].strip()) for m in _PAIR.finditer(reply)]
    if not matches and reply:
        return [GeneratedText(name, reply, whole=whole)]
    pairs = [
        GeneratedText(name, answer, " ".join(question.split())) for question, answer in matches
    ]
    return _ending(whole, pairs)


def _ending(whole: bool, pieces: list[GeneratedText]) -> list[GeneratedText]:
    if pieces and not whole:
        last = pieces[-1]
        return [*pieces[:-1], GeneratedText(last.kind, last.text, last.question, whole=False)]
    return pieces


# --- the kinds

_MANNERS = (
    "Write in the language of the passage. Write only what was asked for, and nothing that the "
    "passage does not say."
)

#: What is asked for about each passage.
KINDS: Mapping[str, TextKind] = {
    "rewrite-entry": TextKind(
        "rewrite",
        "Write an encyclopedia entry that says all that the passage says, in other words and in "
        "another order. Call things by their names instead of `it` and `they`.",
        "",
        0.6,
        2.0,
        _one,
    ),
    "rewrite-simple": TextKind(
        "rewrite",
        "Explain what the passage says to a beginner, in short and simple sentences. Keep every "
        "fact, name and number, and make up no examples.",
        "",
        0.6,
        2.0,
        _one,
    ),
    "rewrite-notes": TextKind(
        "rewrite",
        "Take the passage apart into single facts. Write one per line, each line beginning with "
        "`- `, in words of your own. Each names what it speaks of and can be understood alone.",
        "-",
        0.6,
        2.0,
        _one,
    ),
    "rewrite-dialogue": TextKind(
        "rewrite",
        "Tell what the passage says as a conversation: a student asks, and a teacher answers with "
        "its facts, in whole sentences. Begin each turn with `Student:` or `Teacher:`.",
        "Student:",
        0.6,
        2.5,
        _one,
    ),
    "implications": TextKind(
        "implication",
        "List what follows from the passage: what must be true because it is. Write one statement "
        "per line, each line beginning with `- `, that can be understood without the passage.",
        "-",
        0.8,
        2.0,
        _lines,
    ),
    "questions": TextKind(
        "exercise",
        "Write questions that the passage answers, and their answers. Each takes two lines, one "
        "that begins with `Question:` and one that begins with `Answer:`. A question must make "
        "sense to somebody who has not seen the passage; an answer is a few words of it.",
        "Question:",
        1.0,
        2.0,
        _pairs,
    ),
}
