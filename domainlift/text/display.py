"""Foreign text for display: in one line, without control characters."""

from __future__ import annotations

import re

_USER = re.compile(r"(\w://)[^/\s?#`'\"]*@")
_SECRET = re.compile(
    r"([?&][\w.-]*(?:key|token|secret|password|passwd|pwd|sig|signature|code|auth)=)[^&#\s`'\"]+",
    re.IGNORECASE,
)


# Keys of the hub, of OpenAI and of their like, wherever they stand.
_KEY = re.compile(r"\b(hf|sk|gsk|ghp|xox[a-z])([_-])[\w-]{12,}")


def one_line(text: str, limit: int | None = None) -> str:
    """Collapse white space; of a text longer than `limit` the rest becomes an ellipsis."""
    line = " ".join(text.split())
    return line if limit is None or len(line) <= limit else line[: limit - 1] + "…"


def printable(text: str, substitute: str = "\ufffd") -> str:
    """Replace control characters, line feeds and marks that turn the direction of text."""
    # Marks that turn the direction are format characters, and none of those is printable.
    return "".join(c if c.isprintable() else substitute for c in text)


def without_credentials(text: str) -> str:
    """Leave the users, passwords and keys out of the URLs in a text."""
    text = _USER.sub(r"\1", text)
    return _KEY.sub(r"\1\2…", _SECRET.sub(r"\1…", text))
