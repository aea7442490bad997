"""Reasons of errors: what many messages have in common, counted."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from domainlift.text.display import one_line

_MOST = 5
# The status and the places of servers stay; numbers of tokens, ids of requests and times differ.
_STATUS = re.compile(r"the server answered \d{3}: ")
_VARIES = re.compile(r"(://[^/\s`]+(?:/v\d+\b)?)|\b(?=[\w-]*\d)[\w.:-]+")


def error_reason(error: str | None) -> str:
    """What a message has in common with others of its kind."""
    text = one_line(error if error else "no reason was given")
    status = _STATUS.match(text)
    kept = status[0] if status else ""
    return one_line(kept + _VARIES.sub(lambda m: m[1] or "…", text[len(kept) :]), 120)


def count_reasons(reasons: Iterable[str]) -> dict[str, int]:
    """Reason -> how many errors have it, the most frequent first."""
    return dict(Counter(reasons).most_common())


def told_reasons(reasons: Mapping[str, int]) -> str:
    """The most frequent reasons in a line, each with its number."""
    told = [f"{count:,} × {reason}" for reason, count in list(reasons.items())[:_MOST]]
    more = len(reasons) - _MOST
    return "; ".join(told) + (f"; {more} more" if more > 0 else "")
