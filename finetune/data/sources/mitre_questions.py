"""Questions about the objects of ATT&CK, CAPEC and CWE, in several wordings each.

An object is recognised by the heading of its document, `Phishing (technique T1566)`,
`Forceful Browsing (CAPEC-87)` or `CWE-22: Path Traversal`; its text begins with a description and
goes on with labelled lines (`Tactics: initial-access`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import yaml

from finetune.data.cleaning import clean_field
from finetune.data.sources.sentences import sentences

#: An answer of more characters than this is not asked for.
_LONGEST = 300
_HEADINGS = (
    re.compile(r"(?P<name>.+) \((?P<kind>[a-z][a-z ]*) (?P<number>[A-Z]+\d[\d.]*)\)"),
    re.compile(r"(?P<name>.+) \((?P<number>CAPEC-\d+)\)"),
    re.compile(r"(?P<number>CWE-\d+): (?P<name>.+)"),
)
_KINDS = {"CAPEC": "attack pattern", "CWE": "weakness"}
_MASK = "____"


@dataclass(frozen=True)
class _Object:
    name: str
    kind: str
    number: str


def record_questions(heading: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield (question, answer) for an object; nothing where the heading is not that of one."""
    entry = _object(heading)
    if entry is None:
        return
    yield from _question_pairs("name", entry, entry.name)
    yield from _question_pairs("number", entry, entry.number)
    first = next(sentences(text.partition("\n")[0]), "")
    if first and len(first) <= _LONGEST:
        yield from _question_pairs("description", entry, first)
        hidden = re.sub(re.escape(entry.name), _MASK, first, flags=re.IGNORECASE)
        if entry.number not in hidden:
            yield from _question_pairs("which", entry, entry.name, description=hidden)
    yield from _labelled(entry, text)


def _object(heading: str) -> _Object | None:
    for form in _HEADINGS:
        match = form.fullmatch(heading)
        if match:
            named = match.groupdict()
            kind = named.get("kind") or _KINDS[named["number"].partition("-")[0]]
            return _Object(named["name"], kind, named["number"])
    return None


def _labelled(entry: _Object, text: str) -> Iterator[tuple[str, str]]:
    seen = set()
    for line in text.split("\n"):
        match = _labelled_line().fullmatch(line.strip())
        # Of several lines of one label the first tells the most common thing.
        if match is None or match[2] == "Other" or len(match[3]) > _LONGEST:
            continue
        if match.group(1, 2) not in seen:
            seen.add(match.group(1, 2))
            answer = match[3].replace("-", " ") if match[1] == "Tactics" else match[3]
            yield from _question_pairs(match[1], entry, answer, label=(match[2] or "").lower())


def _question_pairs(
    about: str, entry: _Object, answer: str, **more: str
) -> Iterator[tuple[str, str]]:
    """Every wording of the questions about a part of an object, or a label of its lines."""
    filled = {"label": "", "description": "", **vars(entry), **more}
    wordings = _wordings()
    for wording in wordings[about] if about in wordings else wordings["labels"][about]:
        yield clean_field(wording.format(**filled)), clean_field(answer)


@cache
def _labelled_line() -> re.Pattern[str]:
    return re.compile(rf"({'|'.join(_wordings()['labels'])})(?: ([^:]{{1,60}}))?: (.+)")


@cache
def _wordings() -> dict[str, Any]:
    path = Path(__file__).parent / "mitre_wordings.yaml"
    wordings: dict[str, Any] = yaml.safe_load(path.read_text(encoding="utf-8"))
    return wordings
