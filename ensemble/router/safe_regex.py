"""Regular expressions of a keyword file, checked so that a search ends soon.

The engine tries every way to share a text between loops and choices, which takes n² steps with
one loop and 2ⁿ with a loop within a loop. So only few of them are allowed, none within a
repetition, and a search looks at the beginning of a text only.
"""

from __future__ import annotations

import re
import warnings
from collections import Counter

MAX_PATTERN = 200
#: How many characters of a question are searched.
MAX_TEXT = 1_000
MOST = {"loops": 1, "choices": 4}

_TOKEN = re.compile(
    r"""
      (?P<reference> \\[1-9] | \(\?P= | \(\?\( )
    | (?P<special> \(\? (?! [:=!] | <[=!] | P<\w+> ) )
    | (?P<open> \( (?: \? (?: [:=!] | <[=!] | P<\w+> ) )? )
    | (?P<close> \) )
    | (?P<bar> \| )
    | (?P<times> \{ \d+ \} [?+]? )
    | (?P<choice> (?: \? | \{ 0?,1 \} ) [?+]? )
    | (?P<loop> (?: [*+] | \{ \d*,\d* \} ) [?+]? )
    | \\. | \[ \^? \]? (?: \\. | [^\]\\] )* \] | .
    """,
    re.DOTALL | re.VERBOSE,
)
# A choice of single characters is a character class to the engine.
_ONE_CHARACTER = re.compile(r"(?<!\\)\((?:\?:)?\w(?:\|\w)+\)")


def compile_safely(pattern: str) -> re.Pattern[str]:
    """Compile a pattern without regard to case; ValueError says what is wrong with it.

    Refused are what does not compile, a loop or a choice within a repetition, more than one loop,
    more than four choices, references to a group, and groups that set flags.
    """
    if len(pattern) > MAX_PATTERN:
        raise ValueError(f"has {len(pattern)} characters; at most {MAX_PATTERN} are allowed")
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("error")  # such a pattern means something else than it seems to
            compiled = re.compile(pattern, re.IGNORECASE)
    except (re.error, RecursionError, OverflowError, Warning) as error:
        raise ValueError(f"is no regular expression: {error}") from None
    _check_cost(_ONE_CHARACTER.sub("x", pattern))
    if compiled.search("") is not None:
        raise ValueError("matches the empty text, and so every question")
    return compiled


def _check_cost(pattern: str) -> None:
    """Raise ValueError for a valid pattern that may take forever."""
    varies, has_bar = [False], [False]  # of the open groups, the whole pattern first
    atom_varies = False  # whether the group before a quantifier has a loop or a choice in it
    count = Counter[str]()
    for token in _TOKEN.finditer(pattern):
        kind = token.lastgroup
        if kind == "reference":
            raise ValueError("refers to a group")
        if kind == "special":
            raise ValueError("sets flags, or has a group of a kind that is not allowed")
        if kind in ("times", "loop") and atom_varies:
            raise ValueError("has a loop or a choice within a repetition, which can take forever")
        if kind == "open":
            varies.append(False)
            has_bar.append(False)
        elif kind in ("loop", "choice") or (kind == "bar" and not has_bar[-1]):
            count["loops" if kind == "loop" else "choices"] += 1
            has_bar[-1] |= kind == "bar"
            varies[-1] = True
        atom_varies = kind == "close" and varies.pop()
        if kind == "close":
            has_bar.pop()
            varies[-1] |= atom_varies
    for name, most in MOST.items():
        if count[name] > most:
            raise ValueError(f"has {count[name]} {name}; at most {most} are allowed")
