"""Wordings of a fact: a sentence with a gap, one with a question word in it, and a question.

None of them needs a parser: a question word takes the place of the answer, and is brought to the
front where the sentence has an auxiliary that can change places with its subject.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator

from domainlift.text.normalise import words
from finetune.data.sources.cloze import BLANK
from improve.exam.fact_finder import Fact

#: The names of the wordings.
GAP, IN_PLACE, QUESTION = WORDINGS = ("gap", "in place", "question")

_ASKED = {
    "date": "which date",
    "time": "what time",
    "money": "how much",
    "percentage": "what percentage",
    "day": "which day",
    "month": "which month",
    "year": "which year",
    "number": "how many",
    "name": "what",
    "ending": "what",
    "term": "what",
    "phrase": "what",
    "definition": "what",
}
_PERSONAL = frozenset(("by", "with", "to", "for", "from"))
_AUXILIARY = "is|are|was|were|can|must|may|will|should|might|could"
_CLAUSE = re.compile(
    rf"(?P<subject>(?:(?!\b(?:{_AUXILIARY}|who|which|that|what|where|when|if|because|and|or|there)\b)[^,;:])"
    rf"{{2,60}}?) (?P<auxiliary>{_AUXILIARY}) (?P<rest>.+)"
)
_OPENERS = frozenset(
    words("the a an every each all most many some few several no its their our new old in at on by")
)
_WITH_DAY = re.compile(r"\b\d{1,2}\b")
_UNIT = re.compile(r" (?P<unit>[a-z]+(?:[ -][a-z]+ly)?)\b")
_ARTICLE = re.compile(r"\b(?:the|an?|every|each|some)\s+$", re.IGNORECASE)
# What may stand between an auxiliary and what is asked for, if that is to move to the front:
# nothing, or a few words without an object, of which the last is a preposition or names something.
_MOVABLE = re.compile(
    r"(?:(?!(?:the|an?|every|each|its|their|any|some|and|or|but|that|which|who|if|when|not|as)\b)"
    r"[\w-]+ ){0,4}(?:called|named|as|by|in|on|at|of|from|for|with|to|until|after|before|since)|"
)


def wordings(fact: Fact, common: Collection[str]) -> dict[str, str]:
    """The wordings of a fact by name; `common` are words that begin a sentence and are no names."""
    made = {GAP: _with_gap(fact), IN_PLACE: _in_place(fact), QUESTION: _question(fact, common)}
    context = _context(fact)
    return {name: f"{context}{text}" for name, text in made.items() if text}


def examined_wording(fact: Fact, made: Collection[str]) -> str:
    """The wording that is examined: the most natural; long sentences read best with a gap."""
    if fact.kind == "term":
        return GAP
    return QUESTION if QUESTION in made else IN_PLACE


def _context(fact: Fact) -> str:
    """The heading, where a sentence has no word of it."""
    heading = fact.chunk.heading.rpartition(" > ")[2].strip(" :")
    told = {word[:5] for word in words(fact.sentence)}
    named = [word[:5] for word in words(heading) if len(word) > 3]
    return f"{heading}: " if named and told.isdisjoint(named) else ""


def _with_gap(fact: Fact) -> str:
    return f"{fact.before}{BLANK}{fact.after}"


def _in_place(fact: Fact) -> str:
    asked, before = question_word(fact), _before(fact)
    after = fact.after.rstrip(".")
    if before and fact.kind != "definition":  # an article before a term would tell it from others
        return f"{before} {asked}{after}?"
    return f"{asked[0].upper()}{asked[1:]}{after}?"


def _before(fact: Fact) -> str:
    """What stands before the answer, without an article or "every", which belong to it."""
    return _ARTICLE.sub("", fact.before).rstrip()


def question_word(fact: Fact) -> str:
    """What asks for the answer in its place."""
    spoken = words(_before(fact))
    if fact.kind == "name" and not spoken:
        return "who or what"
    if fact.kind == "day" and fact.before.rstrip().endswith("every"):
        return "on which day"
    if fact.kind == "name" and spoken and spoken[-1] in _PERSONAL:
        return "whom" if spoken[-1] == "by" else "whom or what"
    if fact.kind == "date" and not _WITH_DAY.search(fact.answer):
        return "which month and year"
    if fact.kind == "day" and fact.answer.endswith("s"):
        return "which days"
    return _ASKED[fact.kind]


def _question(fact: Fact, common: Collection[str]) -> str:
    """The question with its question word in front, "" where that cannot be told."""
    match = _CLAUSE.match(fact.sentence)
    if match is None or fact.start < match.start("rest") or fact.kind == "term":
        return ""
    rest = _before(fact)[match.start("rest") :]
    after = fact.after.rstrip(".")
    asked = question_word(fact)
    if fact.kind == "number":
        unit = _UNIT.match(after)
        # "after three years of fighting" stays together
        if unit is None or after.startswith(" of", unit.end()):
            return ""
        asked, after = f"{asked} {unit['unit']}", after[unit.end() :]
    if fact.kind == "percentage" and after:  # it may belong to what comes after it
        return ""
    if "," in rest or "," in after or not _MOVABLE.fullmatch(rest.strip()):
        return ""
    subject = _lower_first(match["subject"], common)
    tail = " ".join(f"{rest} {after}".split())
    asked = "who" if asked == "whom" else asked  # as it is said in front
    middle = f"{match['auxiliary']} {subject} {tail}".strip()
    return f"{asked[0].upper()}{asked[1:]} {middle}?"


def _lower_first(subject: str, common: Collection[str]) -> str:
    first = subject.split()[0]
    lower = first.lower()
    if lower in _OPENERS or lower in common:
        return lower + subject[len(first) :]
    return subject


def common_words(texts: Collection[str]) -> frozenset[str]:
    """The words that stand in lower case somewhere in these texts."""
    return frozenset(word for text in texts for word in _lower_words(text))


def _lower_words(text: str) -> Iterator[str]:
    return (match[0] for match in re.finditer(r"\b[a-z]+\b", text))
