"""Sentences that stand by themselves: plain statements that say what they are about."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from itertools import pairwise, takewhile

from domainlift.text.normalise import contains, words
from finetune.data.sources.sentences import sentences
from rag.base import Chunk

#: Prepositions, as alternatives of a pattern.
PREPOSITIONS = "of|with|from|by|on|in|at|for|into|as|behind|under|to|through|during|between|over"
_FEWEST, _MOST = 5, 24
_PROSE = re.compile(r"[A-Z“\"].*[^.!?:;,\s]\.", re.DOTALL)
_NO_PROSE = re.compile(
    r"https?://|[(){}|<>\\`*=/]|_{2,}|\[\d|\. ?\.|\b(?:e\.g|i\.e)\b"
    r"|(?-i:[a-z]{2}\.[A-Z][a-z]+ )",  # two sentences without a space
    re.IGNORECASE,
)
#: Words with which a sentence goes on from another one, asks, or gives an order.
POINTERS = frozenset(
    words(
        "this that these those it its they them their theirs he him his she her hers such here"
        " there thus hence therefore however also another other both if when since as because"
        " although while though just many one what note see similarly additionally furthermore"
        " moreover finally first second third next then instead again still yet and but or so for"
        " who how where imagine suppose consider compare recall think"
    )
)
# What points back, or at the reader, wherever it stands in a sentence.
_BACK = frozenset(
    words(
        "this these those above below following latter former figure table chapter section here"
        " then you your we our us i my let please he she him his her"
    )
)
# What points back where a sentence has named nothing yet.
_OF_BEFORE = frozenset(words("it its they them their"))
_BEGINNING = 5
# A time or a thing that another sentence has told, and what stands beside the text.
_TOLD_BEFORE = re.compile(
    r"\b(?:later|earlier|previously|afterwards?|beforehand|meanwhile)\b"
    r"|\b(?:of|at|in|by|during|on|from|after|before|until) that (?:[a-z]+ )?[a-z]+\b"
    r"|\bboth (?!.*\band\b)|\bsuch (?!as\b)"
    r"|\b(?:do|does|did|doing) (?:so|as well|too)\b"
    r"|\b(?:shown|seen|illustrated|depicted|listed) in\b"
    r"|^The (?:[a-z]+ )?(?:video|image|photo|photograph|picture|map|poster|chart|graph|excerpt)\b",
    re.IGNORECASE,
)
_PRONOUN = re.compile(r"(?P<word>It|Its) ")
#: Words that begin a statement.
OPENERS = frozenset(
    words(
        "the a an every each all most some no everybody whoever anybody nobody only everyone in"
        " on at during from by after before until under between"
    )
)
#: Auxiliary verbs.
VERBS = frozenset(
    words("is are was were has have had can cannot must may will should might could does did")
)
# Of "A list of the findings" only a past tense tells that it is a sentence.
_TITLES = frozenset(words("list overview summary description class set"))
_PAST, _INFLECTED = re.compile(r"ed$"), re.compile(r"ed$|[^s]s$")
_DETERMINERS = frozenset(words("the a an your its their this that any all each every"))
_BEFORE_OBJECT = frozenset(PREPOSITIONS.split("|"))
_PERSON_ACTS = re.compile(r"[A-Z][\w-]+ [A-Z][\w-]+ [a-z]+s\b")
_THE = re.compile(
    r"\b[Tt]he (?P<thing>[a-z]+)"
    r"(?= (?:[a-z]+s|[a-z]+ed|can|must|may|will|is|was|were|are|has|had)\b|['’])"
)


def standing_sentences(chunk: Chunk, several: Collection[str] = ()) -> Iterator[str]:
    """Yield the plain sentences of a chunk that say what they are about.

    "The" thing is not told where there are `several`, unless the heading names it.
    A sentence that begins with "It" or "Its" speaks of the heading where the sentence before it
    does, and is given with the heading in that place.
    """
    topic = _topic(chunk)
    about_topic = False
    told = set(words(chunk.heading))
    for sentence in sentences(chunk.text):
        pronoun = _PRONOUN.match(sentence)
        if pronoun is not None and about_topic:
            subject = f"The {topic}" + ("'s" if pronoun["word"] == "Its" else "")
            sentence = f"{subject} {sentence[pronoun.end() :]}"
        else:
            about_topic = bool(topic) and contains(sentence, topic)
        things = {match["thing"] for match in _THE.finditer(sentence)} - told
        if _stands_alone(sentence) and things.isdisjoint(several):
            yield sentence


def _topic(chunk: Chunk) -> str:
    """The last heading where it is a thing: a few words in lower case but for the first."""
    last = chunk.heading.rpartition(" > ")[2].strip()
    rest = last.split()[1:]
    plain = last.isascii() and 0 < len(last.split()) <= 3 and " and " not in last
    plain = plain and not (last.isupper() and len(last) > 5)  # a heading in capitals, no name
    if not plain or any(word != word.lower() for word in rest) or last.endswith("ing"):
        return ""
    # A word that has its capital within a sentence too is a name.
    is_name = re.search(rf"[a-z] {re.escape(last)}\b", chunk.text) is not None
    return last if is_name or not last[1:2].islower() else last[0].lower() + last[1:]


def _stands_alone(sentence: str) -> bool:
    spoken = words(sentence)
    return (
        _FEWEST <= len(spoken) <= _MOST
        and _PROSE.fullmatch(sentence) is not None
        and _NO_PROSE.search(sentence) is None
        and spoken[0] not in POINTERS
        and _BACK.isdisjoint(spoken)
        and _OF_BEFORE.isdisjoint(spoken[:_BEGINNING])
        and _TOLD_BEFORE.search(sentence) is None
        and (_is_statement(spoken) or _PERSON_ACTS.match(sentence) is not None)
    )


def _is_statement(spoken: Sequence[str]) -> bool:
    """Whether words begin as a statement does: an order has its object before any auxiliary."""
    if spoken[0] in OPENERS:
        title = spoken[2] == "to" or not _TITLES.isdisjoint(spoken[1:3])
        verb = _PAST if title else _INFLECTED
        return spoken[1] != "one" and any(word in VERBS or verb.search(word) for word in spoken)
    subject = list(takewhile(lambda word: word not in VERBS, spoken))
    objects = [
        word
        for before, word in pairwise(subject)
        if word in _DETERMINERS and before not in _BEFORE_OBJECT
    ]
    return len(subject) < len(spoken) and not objects
