"""Open answers in words: what a reply says, and whether it says the same as the reference.

Case, punctuation, markup, quotes, a leading article and the Unicode form do not tell answers
apart; signs that belong to a name (C++, C#, .NET, T-cell) or to mathematics, and the values of
numbers do.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

from benchmarks.scoring.replies.markup import without_markup
from benchmarks.scoring.replies.numbers import as_number, extract_number, plain_numbers
from benchmarks.scoring.replies.reading import Reading

# The last mark of the first form that occurs counts; its answer ends with the line or sentence.
_FORMS = (
    ("boxed", re.compile(r"\\(?:boxed|fbox) ?\{ ?")),
    ("<answer>", re.compile(r"<(?:(?:final_)?answer|solution)>\s?", re.IGNORECASE)),
    (
        "answer is",
        re.compile(
            r"(?:\b(?:final |correct |right |best )?answer(?: to (?:this|the) question)?"
            r"|\b(?:antwort|respuesta|réponse|risposta|resposta)|答案|答え)"
            r"(?: ?:| is:?| would be:?| ist:?| es:?| est ?:?|是|为|は)[ \n]?",
            re.IGNORECASE,
        ),
    ),
    ("####", re.compile(r"#### ?")),
)
_END = re.compile(r"[{}\n]|</|(?<=\w{3})[.!?] (?=[A-Z])")
_LEADING = re.compile(r"\A(?:(?:#{1,6}|[>•·-]) )*(?:(?:the|an|a) (?=\S))?")
# Signs within a word (3.5, node.js, and/or) or that belong to one (C++, C#, .NET, 50%) stay.
# as do signs of mathematics and logic, and primes.
_PUNCTUATION = re.compile(
    r"(?<=\w)-(?=[^\W\d])|\.(?!\w)|[^\w\s.+#%/&=<>^°$€£¥¬′±×÷\u2200-\u22ff-]|_"
)
# What else would get lost: p and !p, x and x'; and dots, which the letters of U.S. may lack.
_NEGATION = re.compile(r"(?<!\S)[!~](?=[^\W\d])")
_PRIMES = re.compile(r"(?<=\b[^\W\d_])(?<!'.)'+(?!\w)")
_INITIALS = re.compile(r"\b(?:[^\W\d_]\.)+[^\W\d_]\b\.?|\b(?:[^\W\d_]\.){2,}")
#: Passages that are cited after an answer.
_CITED = re.compile(r"(?<=\S)(?: ?\[\d{1,2}(?:, ?\d{1,2})*\]| ?【[^【】\n]{1,20}】)+(?=[.!]?\Z)")


def extract_text(reply: str) -> Reading | None:
    """Return what a reply states: after an explicit mark, else its only or its first line."""
    text = without_markup(reply)
    for name, form in _FORMS:
        marks = list(form.finditer(text))
        said = _END.split(text[marks[-1].end() :], maxsplit=1)[0].strip() if marks else ""
        if said:
            return Reading(said, name)
    lines = text.split("\n")
    if len(lines) < 2:
        return Reading(text, "whole reply") if text else None
    return (
        Reading(lines[-1], "last line")
        if lines[0].endswith(":")
        else Reading(lines[0], "first line")
    )


def same_text(said: str, reference: str) -> bool:
    """Whether two answers are the same but for how they are written."""
    return _even(said if "[" in reference else _CITED.sub("", said.strip())) == _even(reference)


def says_one_of(reply: str, references: Iterable[str]) -> bool:
    """Whether a reply says what a reference says: the same number, or the same words."""
    number, words = extract_number(reply), extract_text(reply)
    return any(
        same_text(reply, each) or (words is not None and same_text(str(words.answer), each))
        if (value := as_number(each)) is None
        else number is not None and number.answer == value
        for each in references
    )


def _even(text: str) -> str:
    shown = plain_numbers(without_markup(text)).casefold().replace("i\u0307", "i")
    folded = unicodedata.normalize("NFKC", shown).replace("–", "-").replace("!=", "≠")
    folded = _PRIMES.sub(lambda m: "′" * len(m[0]), _NEGATION.sub("¬", folded))
    folded = _INITIALS.sub(lambda m: m[0].replace(".", ""), folded)
    kept = _LEADING.sub("", " ".join(_PUNCTUATION.sub(_blank, folded).split()))
    return kept or " ".join(folded.split())


def _blank(found: re.Match[str]) -> str:
    """A hyphen parts words; other punctuation leaves nothing, and commas a blank."""
    return "" if found[0] in "'." else " "
