"""Yes or no with a clause that only says the question again, as in "No, they do not".

Every word of the clause is the question's, or a pronoun, an article or an auxiliary verb; it denies
after "no" and does not after "yes". Whatever else follows may take the answer back.
"""

from __future__ import annotations

import re

from domainlift.text.normalise import words

#: The answers that may be said so.
YES, NO = "yes", "no"
_SAID = re.compile(r"\W*(yes|no), ([^.!?;:,\n]+)[.!]?\W*", re.IGNORECASE)
_IN_FULL = (
    (re.compile(r"\bcan(?:'t|not)\b"), "can not"),
    (re.compile(r"\bwon't\b"), "will not"),
    (re.compile(r"n't\b"), " not"),
    (re.compile(r"'(?:s|re|m|ve|d|ll)\b"), ""),
)
_ENDING = re.compile(r"(?<=\w\w)(?:ies|es|s|ed|ing|e|y)\Z")
_DENIED = frozenset(words("not never incorrect false wrong"))
_FREE = _DENIED | frozenset(
    words("""
    a an the it he she they we you i there this that these those one is are am was were be been do
    does did has have had correct right true
    """)
)
_HEDGES = frozenset(
    words("""
    but only sometimes often usually mostly partly partially if unless except until or however
    although though depends maybe perhaps possibly probably may might yes no either neither
    """)
)


def yes_or_no(said: str, question: str) -> str:
    """`YES` or `NO` where an answer is that and a clause that repeats the question; else ""."""
    found = _SAID.fullmatch(said)
    if found is None:
        return ""
    answer, clause = found[1].lower(), _in_full(found[2])
    allowed = set(map(_stem, [*_FREE, *_in_full(question)]))
    if not _HEDGES.isdisjoint(clause) or not allowed.issuperset(map(_stem, clause)):
        return ""
    return answer if sum(word in _DENIED for word in clause) == (answer == NO) else ""


def _in_full(text: str) -> list[str]:
    spoken = text.replace("’", "'").casefold()
    for short, full in _IN_FULL:
        spoken = short.sub(full, spoken)
    return words(spoken)


def _stem(word: str) -> str:
    return _ENDING.sub("", word)
