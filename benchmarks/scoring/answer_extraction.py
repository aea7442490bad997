"""Extraction of answers from replies: an option's letter, or a final number.

A wrong reading is worse than none: a reply that hedges ("A or B"), or whose "A" may be the
article, has no answer.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from functools import cache
from string import ascii_uppercase

# Marks of emphasis and of formulas, and signs of which there are several. After this and the
# joining of blanks, no form below needs an unbounded repetition.
_MARKUP = str.maketrans({"’": "'", "−": "-"} | dict.fromkeys('*`$€£"“”', ""))
_LARGEST = 100

# What may follow "A" or "I" where it is a letter and no word of a sentence.
_REASON = r"(?:because|since|as|is|seems|must|due|for|which|and|or|with)\b"
_END = r"(?![\w']|-\w)"
_CLOSED = r"(?=[).:,;!\]}]|\n|\Z)"
_NAMED = r"(?i:(?:the )?(?:option|choice|letter|answer) )?[(\[]?"
_IS = (
    r"(?i:(?: here| to this question)?(?: is| would be| should be| must be| ?=)"
    r"(?: therefore| thus| clearly| definitely)?(?: ?:)?| ?:)[ \n]{0,2}"
)
_ANSWER = r"(?i:\banswer|\b(?:correct|right|best) (?:option|choice|one|response))"
_OPINION = r"(?i:\b(?:it's|it is|choose|pick|select|go with|say|guess|think|believe)[ :])"
_BOXED = r"\\boxed ?\{ ?(?:\\\w{1,8} ?\{)?[(\[]?"
_RIGHT = r"(?i:(?:is|seems|must be)(?: the)?(?: most| only)? (?:correct|right|best|true|answer))"
_START = r"\A\W{0,8}"
_DENIED = re.compile(r"\b(?:not|never|neither)\b|n't\b")

# From the most explicit form to the least; the last match of the first form that occurs counts,
# because a reply that reasons states its answer at the end. U is a letter, E one in either case.
_LETTER_FORMS = (
    (_START + _NAMED, "E", r"\W{0,4}(?:\n|\Z)"),
    (_BOXED, "E", r"(?=[).:,} \]])"),
    (_ANSWER + _IS + _NAMED, "U", _END),
    (_ANSWER + f"(?:{_IS})?[ \n]?" + _NAMED, "E", _CLOSED),
    (r"<answer>\W{0,4}", "E", r"\b"),
    (_OPINION + _NAMED, "U", _END),
    (r"(?<![\w'])", "U", r"[)\]]? " + _RIGHT),
    (r"\n\W{0,8}" + _NAMED, "E", r"\W{0,4}\Z"),
    (_START + _NAMED, "U", r"(?:[).:,;\]](?![A-Za-z]\.)| ?[-–—] )"),
    (_START, "E", r"[).](?=[ \n])"),
)

_NUMBER = r"(?>(?:(?<![\w).])[-+])?(?:(?:\d{1,3}(?:,\d{3})+(?!\d)|\d+)(?:\.\d+)?|\.\d+)(?:/\d+)?)"
_NUMBER_FORMS = (
    rf"#### ?({_NUMBER})",
    rf"\\boxed ?\{{[ \\]{{0,2}}({_NUMBER})",
    # What is followed by a sign of arithmetic is the beginning of a calculation.
    rf"(?i:answer){_IS}({_NUMBER})(?! ?[-+*/×÷=])",
    rf"({_NUMBER})",
)


def extract_letter(reply: str, options: Sequence[str]) -> int | None:
    """Return the index of the option that the reply names, by its letter or its whole text.

    None where it names none, or where it is unclear which of several it means.
    """
    text = _bare(reply)
    letters = ascii_uppercase[: len(options)]
    for form in _letter_forms(letters):
        matches = list(form.finditer(text))
        if matches:
            last = matches[-1]
            unclear = _hedged(text, last, letters) or _lists(text, last, letters)
            return None if unclear else letters.index(last[1].upper())
    return _whole_text(text, options)


def extract_number(reply: str) -> str | None:
    """Return the reply's final number in its simplest decimal form, None where it has none."""
    text = _bare(reply)
    for form in _NUMBER_FORMS:
        numbers = re.findall(form, text)
        if numbers:
            return as_number(numbers[-1])
    return None


def as_number(text: str) -> str | None:
    """Return a number without currency, separators and needless zeros: "1200.5" for "$1,200.50".

    A fraction is a number where it has a decimal form: 3/4 is, 1/3 is not.
    """
    bare = " ".join(text.translate(_MARKUP).split()).removesuffix("%").removesuffix(".")
    if len(bare) > _LARGEST or re.fullmatch(_NUMBER, bare) is None:
        return None
    above, _, below = bare.replace(",", "").partition("/")
    try:
        value = Decimal(above) / Decimal(below) if below else Decimal(above)
    except (InvalidOperation, ZeroDivisionError):
        return None
    if below and value * Decimal(below) != Decimal(above):
        return None
    plain = f"{value:f}"
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if plain in {"-0", ""} else plain.removeprefix("+")


@cache
def _letter_forms(letters: str) -> tuple[re.Pattern[str], ...]:
    if not letters:
        return ()
    words = "".join(sorted({"A", "I"} & set(letters)))
    others = "".join(sorted(set(letters) - {"A", "I"}))
    upper = rf"(?:[{words}](?! (?!{_REASON})\w)" + (rf"|[{others}])" if others else ")")
    classes = {"U": upper, "E": f"[{letters}{letters.lower()}]"}
    return tuple(
        re.compile(f"{before}({classes[kind]}){after}") for before, kind, after in _LETTER_FORMS
    )


def _hedged(text: str, match: re.Match[str], letters: str) -> bool:
    """Whether another letter stands beside this one: "A or B", "A, B and C", "A/B"."""
    start, end = match.span(1)
    another = rf"[(\[]?[{letters}](?![\w'])"
    joined = rf"[)\]]?(?: (?:or|and|&) | ?/ ?){another}"
    listed = rf"[)\]]?, ?(?:or |and )?{another}(?=[),.\n]|\Z| (?:or|and|are)\b)"
    before = rf"\b[{letters}][)\]]?(?:,? (?:or|and|&) | ?/ ?)[(\[]?\Z"
    return (
        re.match(f"{joined}|{listed}", text[end : end + 20]) is not None
        or re.search(before, text[max(0, start - 20) : start]) is not None
    )


def _lists(text: str, match: re.Match[str], letters: str) -> bool:
    """Whether the reply goes through the options one by one, and so names none by its first."""
    first, _, others = text.partition("\n")
    return (
        match.end(1) < 12
        and re.search(r"\w", first[match.end(1) :]) is not None
        and re.search(rf"(?:\A|\n)\W{{0,4}}[{letters}][).:]", others) is not None
    )


def _whole_text(text: str, options: Sequence[str]) -> int | None:
    """An option that the reply consists of, or the only one that stands in its first line."""
    plain = [_plain(option) for option in options]
    whole = _plain(text)
    if not whole:
        return None
    if whole in plain:
        return plain.index(whole) if plain.count(whole) == 1 else None
    line = _plain(text.partition("\n")[0])
    inside = {i: place for i, o in enumerate(plain) if o and (place := _place(o, line)) is not None}
    # An option may be a part of another: "Paris", "Paris, Texas".
    longest = [i for i in inside if not any(i != j and plain[i] in plain[j] for j in inside)]
    if len(longest) != 1 or _DENIED.search(line[: inside[longest[0]]]):
        return None
    return longest[0]


def _place(text: str, line: str) -> int | None:
    match = re.search(rf"(?<!\w){re.escape(text)}(?!\w)", line)
    return None if match is None else match.start()


def _bare(text: str) -> str:
    """The text without markup and empty lines, its blanks joined."""
    lines = (" ".join(line.split()) for line in text.translate(_MARKUP).splitlines())
    return "\n".join(filter(None, lines))


def _plain(text: str) -> str:
    bare = " ".join(text.translate(_MARKUP).casefold().split())
    return bare.strip(" .,:;!?'")
