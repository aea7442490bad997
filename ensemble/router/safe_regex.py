"""Regular expressions in a keyword file: only those that cannot take forever."""

from __future__ import annotations

import re
import warnings
from collections import Counter
from collections.abc import Iterator
from re import _constants as marks  # type: ignore[attr-defined]
from re import _parser as parser  # type: ignore[attr-defined]
from typing import Any

LONGEST = 200
#: How much of a question a pattern sees, in characters.
SEEN = 1_000
#: The engine tries every way to share a text between loops and choices: n² steps with one loop.
MOST = {"loops": 1, "choices": 4}
_REPEATS = frozenset({marks.MAX_REPEAT, marks.MIN_REPEAT})


def compile_safely(pattern: str) -> re.Pattern[str]:
    """Compile a pattern without regard to case; ValueError says what is wrong with it.

    Refused are what does not compile, a loop or a choice within a repetition, more than one loop,
    more than four choices, and references to a group: for each there are texts that keep the
    engine busy for hours.
    """
    if len(pattern) > LONGEST:
        raise ValueError(f"has {len(pattern)} characters; at most {LONGEST} are allowed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter(
                "error"
            )  # what Python warns of means something else than it seems
            made = re.compile(pattern, re.IGNORECASE)
            found = list(_walk(parser.parse(pattern), False))
    except (re.error, RecursionError, OverflowError, Warning) as error:
        raise ValueError(f"is no regular expression: {error}") from None
    if any(inside for _, inside in found):
        raise ValueError("has a loop or a choice within a repetition, which can take forever")
    count = Counter(kind for kind, _ in found)
    for kind, most in MOST.items():
        if count[kind] > most:
            raise ValueError(f"has {count[kind]} {kind}; at most {most} are allowed")
    if made.search("") is not None:
        raise ValueError("matches the empty text, and so every question")
    return made


def _walk(part: Any, inside: bool) -> Iterator[tuple[str, bool]]:
    """Every loop and choice, and whether it stands within a repetition."""
    for name, argument in part:
        repeats = name in _REPEATS and argument[1] > 1
        if name is marks.GROUPREF:
            raise re.error("it refers to a group")
        if name in _REPEATS and argument[0] != argument[1]:
            yield ("loops" if repeats else "choices"), inside
        if name is marks.BRANCH:
            yield "choices", inside
        for inner in _parts(argument):
            yield from _walk(inner, inside or repeats)


def _parts(argument: Any) -> Iterator[Any]:
    if isinstance(argument, parser.SubPattern):
        yield argument
    elif isinstance(argument, tuple | list):
        for each in argument:
            yield from _parts(each)
