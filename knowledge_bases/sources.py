"""Sources of a knowledge base's documents, as a domain declares them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

from domainlift.files import leads_out

Kind = Literal["file", "mirror", "hf"]
_PREFIXED = re.compile(r"(\w{2,}):(.*)")
_HUB = re.compile(r"[\w.-]+/[\w.-]+(?::\w+)?")
_FORMS = "write a path, `mirror:PATH` or `hf:org/name[:split]`"


@dataclass(frozen=True)
class Source:
    """Documents and the licence under which they may be used; `title` and `url` credit them.

    `where` is a path within the domain's folder, `mirror:PATH` (within the mirror of published
    data) or `hf:org/name[:split]` (a data set of the hub).
    """

    where: str
    licence: str
    title: str = ""
    url: str = ""


def parse_location(where: str) -> tuple[Kind, str]:
    """Divide `where` into its kind and the rest; ValueError says what is wrong with it."""
    match = _PREFIXED.fullmatch(where)
    if match is None:
        return "file", where
    kind, rest = match.groups()
    if kind == "mirror":
        if leads_out(rest):
            raise ValueError(f"`{where}` leads out of the mirror")
        return "mirror", rest
    if kind == "hf":
        if not _HUB.fullmatch(rest):
            raise ValueError(f"`{where}` names no data set; {_FORMS}")
        return "hf", rest
    raise ValueError(f"`{kind}:` is no kind of source; {_FORMS}")
