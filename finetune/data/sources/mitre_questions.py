"""Questions about the objects of ATT&CK, CAPEC and CWE, in several wordings each.

An object is recognised by the heading of its document, `Phishing (technique T1566)`,
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
# name, {description} its description with the name hidden.
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
    "Which {kind} is this? {description}",
    "Name the {kind} that is described here: {description}",
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
    entry = _object(heading)
    if entry is None:
        return
    yield from _question_pairs(_NAME, entry, entry.name)
    yield from _question_pairs(_NUMBER, entry, entry.number)
    first = next(sentences(text.partition("\n")[0]), "")
    if first and len(first) <= _LONGEST:
        yield from _question_pairs(_DESCRIPTION, entry, first)
        hidden = re.sub(re.escape(entry.name), _MASK, first, flags=re.IGNORECASE)
        if entry.number not in hidden:
            yield from _question_pairs(_WHICH, entry, entry.name, description=hidden)
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
        match = _LABELLED.fullmatch(line.strip())
        # Of several lines of one label the first tells the most common thing.
        if match is None or match[2] == "Other" or len(match[3]) > _LONGEST:
            continue
        if match.group(1, 2) not in seen:
            seen.add(match.group(1, 2))
            answer = match[3].replace("-", " ") if match[1] == "Tactics" else match[3]
            yield from _question_pairs(_LABELS[match[1]], entry, answer, label=_small(match[2]))


def _small(label: str | None) -> str:
    return "" if label is None else label.lower()


def _question_pairs(
    wordings: tuple[str, ...],
    entry: _Object,
    answer: str,
    *,
    label: str = "",
    description: str = "",
) -> Iterator[tuple[str, str]]:
    for wording in wordings:
        question = wording.format(
            kind=entry.kind,
            name=entry.name,
            number=entry.number,
            label=label,
            description=description,
        )
        yield clean_field(question), clean_field(answer)
