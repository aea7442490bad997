"""Grounding check: whether a generated text says what its passage says.

First by its words alone, then by the log-probabilities of the model that wrote it: a text must be
likelier after the passage than after none and after another one, in the mean over its tokens and
in each of its sentences; an answer must be clearly likelier, and what the model would say itself.
"""

from __future__ import annotations

import math
import re
import unicodedata
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.prompts import passage_block
from domainlift.text.ngrams import ngrams
from domainlift.text.normalise import contains_run, words_and_signs
from domainlift.types import Passage
from finetune.data.cleaning import open_layout
from finetune.data.sources.sentences import sentences
from finetune.synthetic.prompts import (
    KINDS,
    Excerpt,
    GeneratedText,
    is_layout,
    title_of,
)

#: The settings in which a piece is read: after its passage, after none, after another one.
OWN, NONE, OTHER = "own", "none", "other"


@dataclass(frozen=True)
class GroundingLimits:
    """Thresholds of a grounded text, in nats.

    `gain` is that of a text per token over the better control, `part` that of its weakest
    sentence. An answer as a whole must gain `answer`, and have a mean of at least `sure` per
    token where it is not what the model would say itself.
    """

    gain: float = 0.3
    part: float = 0.0
    answer: float = 1.0
    sure: float = math.log(0.5)


@dataclass(frozen=True)
class PieceLogprobs:
    """Log-probabilities of a text's parts in one setting, in nats; tokens and greedy flags."""

    logprobs: tuple[float, ...]
    tokens: tuple[int, ...]
    greedy: tuple[bool, ...] = ()


def text_fault(piece: GeneratedText, excerpt: Excerpt) -> str:
    """The first fault in the words of a text, "" without one."""
    return next((reason for reason, is_wrong in _FAULTS.items() if is_wrong(piece, excerpt)), "")


def ungrounded(
    piece: GeneratedText,
    readings: Mapping[str, PieceLogprobs],
    limits: GroundingLimits | None = None,
) -> str:
    """Why the log-probabilities of a piece do not show that it comes from the passage, or ""."""
    limits = limits if limits is not None else GroundingLimits()
    controls = [reading for setting, reading in readings.items() if setting != OWN]
    if OWN not in readings or not controls:
        return "not measured"
    own = readings[OWN]
    gain = sum(own.logprobs) - max(sum(control.logprobs) for control in controls)
    if piece.question:
        return _unproven(own, gain, limits)
    rivals = [max(values) for values in zip(*(c.logprobs for c in controls), strict=True)]
    weakest = min(
        (mine - rival) / count
        for mine, rival, count in zip(own.logprobs, rivals, own.tokens, strict=True)
    )
    if gain / sum(own.tokens) < limits.gain:
        return "the passage does not make it likelier"
    return "a sentence that the passage does not make likelier" if weakest < limits.part else ""


def continuation_of(piece: GeneratedText, excerpt: Excerpt, passages: Sequence[Passage]) -> str:
    """The prompt that the parts of a piece continue, with these passages before it."""
    question, _ = open_layout(piece.question, "")
    return passage_block(passages) + (question if piece.question else f"{title_of(excerpt)}:")


def parts_of(piece: GeneratedText) -> tuple[str, ...]:
    """The parts that are scored: an answer, or each sentence, without marks and speakers."""
    if piece.question:
        return (piece.text,)
    lines = (_LABEL.sub("", line, count=1) for line in piece.text.split("\n"))
    return tuple(sentence for line in lines for sentence in sentences(line))


# --- by log-probabilities


def _unproven(own: PieceLogprobs, gain: float, limits: GroundingLimits) -> str:
    if gain < limits.answer:
        return "the passage does not make it likelier"
    if all(own.greedy) and own.greedy:
        return ""
    mean = sum(own.logprobs) / sum(own.tokens)
    return "" if mean >= limits.sure else "the model would say something else"


# --- by words

_LABEL = re.compile(r"\s*(?:(?:[-*•–]|\(?\d{1,2}[.)])\s+)?(?:(?:Student|Teacher):\s*)?")
_NUMBER = re.compile(r"\d+(?:[.,]\d+)*")
_WORD = re.compile(r"[^\W\d_]+")
_COUNTS = (
    *("zero", "one", "two", "three", "four", "five", "six"),
    *("seven", "eight", "nine", "ten", "eleven", "twelve"),
)
_LEAST_WORDS = 3
_SIZE = 5
# The share of three-word runs that are new, in a text long enough to tell.
_FRESH, _LONG = 0.6, 12
_FOREIGN = 0.05
# Where more of the words within sentences have a capital, capitals do not mark names.
_CAPITALS = 0.2
_TALK = re.compile(
    r"\b(?:(?:this|the|given|above) (?:passage|text|excerpt|article|document|paragraph|author)s?"
    r"|mentioned above|as an ai|language model)\b",
    re.IGNORECASE,
)
# A text has none of the labels that questions and replies have.
_LABELS = re.compile(r"^\W*(?:Question|Answer|Reply)\W*:", re.MULTILINE)


def _empty(piece: GeneratedText, _: Excerpt) -> bool:
    return not piece.text.strip()


def _cut_off(piece: GeneratedText, _: Excerpt) -> bool:
    return not piece.whole


def _no_pair(piece: GeneratedText, _: Excerpt) -> bool:
    exercise = KINDS[piece.kind].row == "exercise"
    return exercise and len(words_and_signs(piece.question)) < _LEAST_WORDS


def _unprintable(piece: GeneratedText, _: Excerpt) -> bool:
    return not all(c.isprintable() or c == "\n" for c in _all(piece)) or "\ufffd" in _all(piece)


def _foreign(piece: GeneratedText, excerpt: Excerpt) -> bool:
    source = set(_scripts(_source(excerpt)))
    own = list(_scripts(_all(piece)))
    return sum(script not in source for script in own) > _FOREIGN * len(own)


def _marked(piece: GeneratedText, _: Excerpt) -> bool:
    """Whether a part of a prompt or a chat stands in a piece."""
    return is_layout(_all(piece)) or _LABELS.search(_all(piece)) is not None


def _short(piece: GeneratedText, _: Excerpt) -> bool:
    return not piece.question and len(words_and_signs(piece.text)) < _LEAST_WORDS


def _repeats(piece: GeneratedText, _: Excerpt) -> bool:
    tokens = words_and_signs(_all(piece))
    runs = [tuple(tokens[i : i + 3]) for i in range(len(tokens) - 2)]
    return len(tokens) >= _LONG and len(set(runs)) < _FRESH * len(runs)


def _copied(piece: GeneratedText, excerpt: Excerpt) -> bool:
    if piece.question:
        return False
    text, source = words_and_signs(piece.text), words_and_signs(excerpt.passage.text)
    own = ngrams(text, _SIZE)
    return len(own & ngrams(source, min(_SIZE, len(text)))) > KINDS[piece.kind].copied * len(own)


def _talks(piece: GeneratedText, excerpt: Excerpt) -> bool:
    match = _TALK.search(_all(piece))
    return match is not None and match[0].lower() not in excerpt.passage.text.lower()


def _contains_answer(piece: GeneratedText, _: Excerpt) -> bool:
    """Whether the question holds its answer."""
    return contains_run(words_and_signs(piece.question), words_and_signs(piece.text))


def _new_number(piece: GeneratedText, excerpt: Excerpt) -> bool:
    source = _source(excerpt)
    spoken = {str(n) for n, word in enumerate(_COUNTS) if word in words_and_signs(source)}
    lines = " ".join([piece.question, *parts_of(piece)])
    return not set(_numbers(lines)) <= {*_numbers(source), *spoken}


def _new_name(piece: GeneratedText, excerpt: Excerpt) -> bool:
    source = _source(excerpt)
    inner = list(_inner_words(sentences(excerpt.passage.text)))
    if sum(word[0].isupper() for word in inner) > _CAPITALS * len(inner):
        return False
    stems = {_stem(word) for word in _WORD.findall(source)}
    own = _inner_words([piece.question, *parts_of(piece)])
    return any(word[0].isupper() and _stem(word) not in stems for word in own)


_FAULTS: Mapping[str, Callable[[GeneratedText, Excerpt], bool]] = {
    "empty": _empty,
    "cut off": _cut_off,
    "marks of the prompt": _marked,
    "no question with an answer": _no_pair,
    "not printable": _unprintable,
    "too short": _short,
    "repeats itself": _repeats,
    "in another script": _foreign,
    "speaks of the passage": _talks,
    "copied": _copied,
    "the question holds the answer": _contains_answer,
    "a number that the passage has not": _new_number,
    "a name that the passage has not": _new_name,
}


def _all(piece: GeneratedText) -> str:
    return f"{piece.question}\n{piece.text}" if piece.question else piece.text


def _source(excerpt: Excerpt) -> str:
    return f"{excerpt.passage.source}\n{excerpt.passage.text}"


def _scripts(text: str) -> Iterator[str]:
    """The script of each letter, as the first word of its name: LATIN, CJK."""
    return (unicodedata.name(c, "?").split()[0] for c in text if c.isalpha())


def _numbers(text: str) -> list[str]:
    return [found.replace(",", "") for found in _NUMBER.findall(text)]


def _inner_words(lines: Iterator[str] | Sequence[str]) -> Iterator[str]:
    """The words that do not begin a sentence, a quotation or what follows a colon."""
    for line in lines:
        for sentence in re.split(r"[:.!?“\"(]\s*", line):
            yield from (word for word in _WORD.findall(sentence)[1:] if word != "I")


def _stem(word: str) -> str:
    return word.casefold().removesuffix("s")
