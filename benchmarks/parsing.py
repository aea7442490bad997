"""Read the answer out of a reply, or say that there is none."""

from __future__ import annotations

import re
from collections.abc import Sequence
from decimal import Decimal, InvalidOperation
from string import ascii_uppercase

# From the most explicit form to the least; the last match of the first form that occurs counts,
# because a reply that reasons states its answer at the end.
_SAID = (
    r"\\boxed\{{\s*(?:\\text\{{)?\s*\(?({0})\)?\s*\}}",
    r"(?i:final answer|correct answer|right answer|correct option|answer)"
    r"(?:\s+(?i:is|would be|:))*\s*:?\s*(?:(?i:option)\s*)?\**\(?({0})\)?(?![A-Za-z0-9'])",
)
_ALONE = r"^\W*(?:(?i:option)\s+)?({0})\s*(?:[).:,]|$|\n)"
_NUMBER = r"[-+]?\$?(?:\d[\d,]*(?:\.\d+)?|\.\d+)"
_NUMBER_FORMS = (
    rf"####\s*({_NUMBER})",
    rf"\\boxed\{{\s*({_NUMBER})",
    rf"(?i:answer)(?:\s+(?i:is|:))*\s*:?\s*\**({_NUMBER})",
    rf"({_NUMBER})",
)


def letter(reply: str, options: Sequence[str]) -> int | None:
    """The index of the option that the reply names, by its letter or by its whole text.

    None where it names none, or where nothing tells which of several it means.
    """
    letters = f"[{ascii_uppercase[: len(options)]}]"
    alone = re.search(_ALONE.format(letters), reply.strip())
    if alone is not None:
        return ascii_uppercase.index(alone[1])
    for form in _SAID:
        said = re.findall(form.format(letters), reply)
        if said:
            return ascii_uppercase.index(said[-1])
    return _whole_text(reply, options)


def number(reply: str) -> str | None:
    """The number that the reply ends on, in its simplest decimal form; None where it has none."""
    for form in _NUMBER_FORMS:
        found = re.findall(form, reply)
        if found:
            return simplest(found[-1])
    return None


def simplest(text: str) -> str | None:
    """A number without signs of currency, separators, needless zeros: "$1,200.50" is "1200.5"."""
    cleaned = re.sub(r"[\s,$+%]", "", text)
    try:
        value = Decimal(cleaned)
    except InvalidOperation:
        return None
    if not value.is_finite() or len(cleaned) > 100:
        return None
    plain = f"{value:f}"
    plain = plain.rstrip("0").rstrip(".") if "." in plain else plain
    return "0" if plain in {"-0", ""} else plain


def _whole_text(reply: str, options: Sequence[str]) -> int | None:
    """An option that the reply consists of, or the only one that stands in its first line."""
    said = _plain(reply)
    exact = [i for i, option in enumerate(options) if _plain(option) == said]
    if exact:
        return exact[0]
    line = _plain(reply.strip().split("\n")[0])
    inside = [
        i for i, o in enumerate(options) if re.search(rf"(?<!\w){re.escape(_plain(o))}(?!\w)", line)
    ]
    return inside[0] if len(inside) == 1 else None


def _plain(text: str) -> str:
    return " ".join(text.casefold().split()).strip(" .,:;!?\"'*")
