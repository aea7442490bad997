"""Questions about the objects of ATT&CK, CAPEC and CWE, in several wordings each.

An object is known by the heading of its document, `Phishing (technique T1566)`,
`Forceful Browsing (CAPEC-87)` or `CWE-22: Path Traversal`; its text begins with a description and
goes on with labelled lines (`Tactics: initial-access`).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

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

# Wordings; {kind}, {name}, {number} are the object's, {label} what stands in a label after its
# name, {told} its description with the name hidden.
_NAME = (
    "What is the {kind} {number} called?",
    "Which {kind} has the number {number}?",
    "What does {number} stand for?",
)
_NUMBER = (
    "What is the number of the {kind} {name}?",
    "Under which number is the {kind} {name} listed?",
)
_DESCRIPTION = (
    "What is the {kind} {name}?",
    "Describe the {kind} {name} ({number}).",
    "What is meant by {name}?",
)
_WHICH = (
    "Which {kind} is this? {told}",
    "Name the {kind} that is described here: {told}",
)
# Label of a line -> wordings of the question that it answers.
_LABELS: dict[str, tuple[str, ...]] = {
    "Tactics": (
        "Which tactic does the {kind} {name} serve?",
        "What do adversaries use {name} ({number}) for, by tactic?",
        "To which tactics does {number} belong?",
    ),
    "Platforms": (
        "On which platforms is the {kind} {name} found?",
        "Which platforms does {name} ({number}) concern?",
    ),
    "Also known as": (
        "By which other names is the {kind} {name} known?",
        "What is {name} ({number}) also called?",
    ),
    "Typical severity": (
        "How severe is the {kind} {name} typically?",
        "What is the typical severity of {number}?",
    ),
    "Likelihood of attack": (
        "How likely is the {kind} {name}?",
        "What is the likelihood of {number}?",
    ),
    "Prerequisites": (
        "What does the {kind} {name} presuppose?",
        "Under which condition does {name} ({number}) work?",
    ),
    "Consequence for": (
        "What is the consequence of the {kind} {name} for {label}?",
        "How does {name} ({number}) harm {label}?",
    ),
    "Mitigation in": (
        "How is the {kind} {name} avoided in {label}?",
        "What helps against {name} ({number}) in {label}?",
    ),
}
_LABELLED = re.compile(rf"({'|'.join(_LABELS)})(?: ([^:]{{1,60}}))?: (.+)")


@dataclass(frozen=True)
class _Object:
    name: str
    kind: str
    number: str


def record_questions(heading: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield (question, answer) for an object; nothing where the heading is not that of one."""
    found = _object(heading)
    if found is None:
        return
    yield from _asked(_NAME, found, found.name)
    yield from _asked(_NUMBER, found, found.number)
    first = next(sentences(text.partition("\n")[0]), "")
    if first and len(first) <= _LONGEST:
        yield from _asked(_DESCRIPTION, found, first)
        hidden = re.sub(re.escape(found.name), _MASK, first, flags=re.IGNORECASE)
        if found.number not in hidden:
            yield from _asked(_WHICH, found, found.name, told=hidden)
    yield from _labelled(found, text)


def _object(heading: str) -> _Object | None:
    for form in _HEADINGS:
        match = form.fullmatch(heading)
        if match:
            named = match.groupdict()
            kind = named.get("kind") or _KINDS[named["number"].partition("-")[0]]
            return _Object(named["name"], kind, named["number"])
    return None


def _labelled(found: _Object, text: str) -> Iterator[tuple[str, str]]:
    seen = set()
    for line in text.split("\n"):
        match = _LABELLED.fullmatch(line.strip())
        # Of several lines of one label the first tells the most common thing.
        if match is None or match[2] == "Other" or len(match[3]) > _LONGEST:
            continue
        if match.group(1, 2) not in seen:
            seen.add(match.group(1, 2))
            answer = match[3].replace("-", " ") if match[1] == "Tactics" else match[3]
            yield from _asked(_LABELS[match[1]], found, answer, label=_small(match[2]))


def _small(label: str | None) -> str:
    return "" if label is None else label.lower()


def _asked(
    wordings: tuple[str, ...], found: _Object, answer: str, *, label: str = "", told: str = ""
) -> Iterator[tuple[str, str]]:
    for wording in wordings:
        asked = wording.format(
            kind=found.kind, name=found.name, number=found.number, label=label, told=told
        )
        yield clean_field(asked), clean_field(answer)
