"""Prompts for texts about a passage, the parsing of replies, and the rows made of them.

A fact told once is hardly learned, and the same fact told in several ways is. So the model itself,
with the passage before it, tells it in other ways: it needs to read, not to know.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import partial

from benchmarks.prompts import passage_block
from domainlift.files import text_sha256
from domainlift.types import Passage
from engines.base import Message, Prompt
from finetune.data.cleaning import clean_rows, open_layout
from finetune.data.rows import Row
from finetune.data.sources.sentences import sentences


@dataclass(frozen=True)
class Excerpt:
    """A passage of a knowledge base that is to be written about, under a licence."""

    passage: Passage
    licence: str = ""


@dataclass(frozen=True)
class GeneratedText:
    """One thing that was written: a statement, or the answer to a `question`.

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
        return text_sha256(content)[:16]


@dataclass(frozen=True)
class TextKind:
    """A way of writing about a passage.

    `row` is the kind of the rows that come of it, and `example` a good reply about the passage of
    the example. `pieces` divides a reply; a reply of `length` tokens per token of the passage and
    64 more is cut off. One that `asks` has a question in every piece.
    """

    row: str
    instruction: str
    example: str
    length: float
    pieces: Callable[[str, str, bool], list[GeneratedText]]
    asks: bool = False


def prompt_of(kind: TextKind, excerpt: Excerpt, *, chat: bool) -> Prompt:
    """Ask for one kind of text about a passage, after an example."""
    first, second = _asked(kind, EXAMPLE), _asked(kind, excerpt)
    if chat:
        turns = ("user", first), ("assistant", kind.example), ("user", second)
        return Prompt(messages=tuple(Message(role, text) for role, text in turns))
    return Prompt(text=f"{first}\n\nReply:\n{kind.example}\n\n{second}\n\nReply:\n")


def _asked(kind: TextKind, excerpt: Excerpt) -> str:
    about = f"The passage is about {title_of(excerpt)}."
    return f"{passage_block([excerpt.passage])}{about} {kind.instruction} {_MANNERS}"


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

    The statements of a reply, and the turns of a dialogue, are learned as one text after the title.
    Each row is a source of its own, so that validation asks in wordings that were not trained.
    """
    texts: dict[str, list[str]] = {}
    made: list[tuple[str, str, str, str]] = []
    for piece in pieces:
        row = KINDS[piece.kind].row
        if row == "exercise":
            made.append((piece.id, row, *open_layout(piece.question, piece.text)))
        else:
            texts.setdefault(piece.kind, []).append(_as_text(piece))
    head = f"{title_of(excerpt)}:"
    whole = [(kind, KINDS[kind].row, head, " " + "\n".join(parts)) for kind, parts in texts.items()]
    if made or whole:
        whole.insert(0, ("passage", "passage", head, " " + excerpt.passage.text))
    place = f"{excerpt.passage.place}{'/' if '#' in excerpt.passage.place else '#'}"
    return [
        Row(prompt, answer, domain, row, f"{place}{excerpt.passage.id}/{name}", excerpt.licence)
        for name, row, prompt, answer in [*whole, *made]
    ]


def _as_text(piece: GeneratedText) -> str:
    if not piece.question:
        return piece.text
    return f"Student: {piece.question}\nTeacher: {piece.text}"


def title_of(excerpt: Excerpt) -> str:
    """The topic of a passage: its last heading."""
    return excerpt.passage.source.rpartition(" > ")[2].strip(" :") or "this"


def prompts_digest() -> str:
    """The version of the prompts: it changes with every word of them."""
    words = [(name, k.row, k.instruction, k.example, k.length) for name, k in KINDS.items()]
    return text_sha256(repr([_MANNERS, EXAMPLE, words]))[:12]


# --- what replies hold

_LAYOUT = re.compile(r"</?passages>|<\|\w+\|>|^\W*(?:assistant|user|system)\W*$", re.MULTILINE)
_MARK = re.compile(r"^\s*(?:[-*•–]|\(?\d{1,2}[.)])\s+")
_PAIR = re.compile(
    r"(?:\*\*)?\bQ(?:uestion)?(?: ?\d+)?(?:\*\*)?[:.](?:\*\*)?(?P<question>.*?)"
    r"\n\W*(?:\d+[.)] )?A(?:nswer)?(?: ?\d+)?(?:\*\*)?[:.](?:\*\*)?(?P<answer>[^\n]*)",
    re.IGNORECASE | re.DOTALL,
)
_TURN = re.compile(
    r"Student[:.]\s*(?P<question>.*?)\s*Teacher[:.]\s*(?P<answer>.*?)\s*(?=Student[:.]|\Z)",
    re.DOTALL,
)


def _statements(name: str, reply: str, whole: bool) -> list[GeneratedText]:
    lines = "\n".join(_MARK.sub("", line, count=1) for line in reply.split("\n"))
    return _ending(whole, [GeneratedText(name, each) for each in sentences(lines)])


def _lines(name: str, reply: str, whole: bool) -> list[GeneratedText]:
    """Each marked line; of a reply without marks, each line."""
    lines = [line for line in reply.split("\n") if line.strip()]
    marked = [line for line in lines if _MARK.match(line)]
    kept = [_MARK.sub("", line, count=1).strip() for line in (marked if marked else lines)]
    return _ending(whole, [GeneratedText(name, line) for line in kept])


def _asked_and_answered(
    form: re.Pattern[str], name: str, reply: str, whole: bool
) -> list[GeneratedText]:
    """Each question with its answer, as they stand in matches of a form."""
    matches = [(m["question"].strip(), m["answer"].strip()) for m in form.finditer(reply)]
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
    "Write in the language of the passage, only what was asked for, and nothing that the passage "
    "does not say. Call things by their names instead of `it` and `they`."
)
#: What the examples are about.
EXAMPLE = Excerpt(
    Passage(
        "The large kiln was bought in 1987 and holds ninety pots. Ivo Lund cleans it every Monday, "
        "because dust spoils the glaze.",
        "Pottery > Kiln",
    )
)

#: What is asked for about each passage.
KINDS: Mapping[str, TextKind] = {
    "rewrite-entry": TextKind(
        "rewrite",
        "Say all that the passage says in other words and in another order.",
        "Every Monday the large kiln is cleaned by Ivo Lund, for its glaze would be spoiled by "
        "dust. Ninety pots find room in the large kiln. The purchase of the large kiln was in "
        "1987.",
        2.0,
        _statements,
    ),
    "rewrite-simple": TextKind(
        "rewrite",
        "Explain what the passage says to a beginner, in short and simple sentences.",
        "Somebody bought the large kiln in 1987. Ninety pots fit into the large kiln. A man called "
        "Ivo Lund cleans the kiln on Mondays. Dust is bad for the glaze.",
        2.0,
        _statements,
    ),
    "rewrite-notes": TextKind(
        "rewrite",
        "List the facts of the passage, one whole sentence per line.",
        "- The large kiln dates from 1987.\n- There is room for ninety pots in the large kiln.\n"
        "- Ivo Lund is the one who cleans the kiln.\n- The kiln gets cleaned every Monday.\n"
        "- The glaze suffers from dust.",
        2.0,
        _lines,
    ),
    "rewrite-reversed": TextKind(
        "rewrite",
        "Say each fact of the passage the other way round: begin the sentence with what the "
        "passage names last.",
        "- 1987 is the year in which the large kiln was bought.\n- Ninety pots are what the large "
        "kiln holds.\n- Monday is the day on which Ivo Lund cleans the kiln.\n- The glaze is "
        "spoiled by dust.",
        2.0,
        _lines,
    ),
    "rewrite-dialogue": TextKind(
        "dialogue",
        "Tell what the passage says as a conversation: a student asks, and a teacher answers in "
        "whole sentences.",
        "Student: When was the large kiln bought?\nTeacher: The large kiln was bought in 1987.\n"
        "Student: Who cleans the kiln?\nTeacher: Ivo Lund cleans the kiln every Monday.\n"
        "Student: Why must the kiln be clean?\nTeacher: The kiln must be clean because dust "
        "spoils the glaze.",
        2.5,
        partial(_asked_and_answered, _TURN),
        asks=True,
    ),
    "questions": TextKind(
        "exercise",
        "Write questions that the passage answers, and their answers of a few words.",
        "Question: In which year was the large kiln bought?\nAnswer: 1987\n"
        "Question: How many pots does the large kiln hold?\nAnswer: ninety\n"
        "Question: Who cleans the kiln?\nAnswer: Ivo Lund\n"
        "Question: What spoils the glaze?\nAnswer: dust",
        2.0,
        partial(_asked_and_answered, _PAIR),
        asks=True,
    ),
}
