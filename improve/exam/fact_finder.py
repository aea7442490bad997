"""Facts of documents: a sentence that stands by itself, and the part of it that is asked for.

No model reads here. A fact is a sentence with a part whose kind can be told from its letters
alone: a date, a time, a number, a name, what stands at the end, or the term that it defines. So the
wrong options of a question can be parts of the same kind from other sentences.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from domainlift.text.normalise import contains, words
from improve.exam.standalone import OPENERS, POINTERS, PREPOSITIONS, VERBS, standing_sentences
from rag.base import Chunk


@dataclass(frozen=True)
class Fact:
    """A sentence and its part `answer`, from `start` on; `kind` is a name of `KINDS_OF_FACTS`.

    `chunk` is where it stands. `slot` is what stands before the answer, by which distractors of the
    same kind are told from those that merely look alike.
    """

    sentence: str
    answer: str
    start: int
    kind: str
    chunk: Chunk
    slot: str = ""

    @property
    def id(self) -> str:
        """16 hexadecimal digits of the document, the sentence and the answer."""
        content = "\0".join((self.chunk.source, self.sentence, self.answer))
        return hashlib.sha256(content.encode("utf-8", "replace")).hexdigest()[:16]

    @property
    def before(self) -> str:
        """The sentence up to the answer."""
        return self.sentence[: self.start]

    @property
    def after(self) -> str:
        """The sentence from the end of the answer on."""
        return self.sentence[self.start + len(self.answer) :]


_MONTH = (
    r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
)
_DAY = r"(?:Monday|Tuesday|Wednesday|Thursday|Friday|Saturday|Sunday)"
_UNITS = ["one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
_TENS = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"]
_TEENS = [
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
]
#: A number in words that the finder knows, "one" by itself not.
SPOKEN = (
    rf"(?:(?:{'|'.join(_TENS)})(?:-(?:{'|'.join(_UNITS)}))?|{'|'.join([*_TEENS, *_UNITS[1:]])})"
)
_DIGITS = r"\d+(?:[.,]\d+)*"
_NUMBER = rf"(?:{_DIGITS}|{SPOKEN})(?: (?:hundred|thousand|million|billion))?"
_COIN = r"(?:euros?|dollars?|pounds|crowns|francs|cents|yen|rupees)"
_OF = " (?:of|de|van|von|der|la)"
_NAME = rf"[A-Z][\w'’-]*[a-z0-9](?:(?:{_OF})? [A-Z][\w'’-]+)*"

#: Kind of fact -> the pattern of its answer. A part belongs to the first kind that it fits.
_PATTERNS = {
    "date": (
        rf"(?<![-–])\b(?:\d{{1,2}} {_MONTH}(?: \d{{4}})?|{_MONTH} \d{{1,2}}(?:, \d{{4}})?"
        rf"|{_MONTH} \d{{4}})\b"
    ),
    "time": r"\b(?:\d{1,2}[:.]\d\d(?: ?[ap]\.?m\b)?|\d{1,2} ?[ap]m\b|(?:half|quarter) past \w+)",
    "money": rf"(?:[€$£] ?{_DIGITS}(?: (?:million|billion))?|\b{_NUMBER} {_COIN})\b",
    "percentage": rf"(?<![-–])\b{_NUMBER} ?(?:%|per ?cent\b)",
    "day": rf"(?<!\d )\b(?:{_DAY}s?)\b",
    "month": rf"(?<!\d )\b{_MONTH}\b(?! \d)",
    "year": (
        r"\b(?:[Ii]n|[Bb]y|[Ss]ince|[Uu]ntil|of) (?P<part>1[0-9]{3}|20[0-9]{2})\b"
        r"(?![%–-]|,? (?:and|or|to|through|until) (?:[a-z]+ )?\d)"
    ),
    "number": rf"(?<![\w.,:#/–-])(?<!& )(?!\d+\.\d+\.)(?:{_NUMBER})(?= [a-z]{{3,}})",
    "name": rf"(?<=[a-z] ){_NAME}\b|^[A-Z][\w’-]*[a-z](?:{_OF})? {_NAME}(?= [a-z])",
}
_FINDERS = {kind: re.compile(pattern) for kind, pattern in _PATTERNS.items()}
# A noun, by what stands before and after it.
_NOUN = re.compile(
    r"\b(?:the|an?|of|by|from|with|as|every|each|[a-z]+(?:al|ic|ous|ive|ed)) "
    r"(?P<part>(?![a-z]*(?:self|selves|ed|ing|ly|able|al|ic|ous|ive|ible|ent|ary|less|est|er)\b)[a-z]{5,})"
    r"(?=\.| (?:is|are|was|were|of|in|on|by|to|from|with|for|that|which|and|or|can|at)\b)"
)
_LONG = 9
#: Words of a plain sentence at most.
_PLAIN = 14
_PLAIN_WORD = rf"(?!(?:{PREPOSITIONS}|is|are|was|were|has|have)\b)[a-z][\w'’-]*"
# What stands at the end of a plain sentence, after a word that asks for it.
_ENDING = re.compile(
    rf"\b(?P<slot>(?:\w+ )?(?!to )(?:is|are|was|were|{PREPOSITIONS}))"
    r" (?P<part>(?:(?:a|an|the|its|their) )?(?![a-z]+(?:ed|ing)\b)"
    rf"(?:{_PLAIN_WORD} ){{0,2}}{_PLAIN_WORD})\.$"
)
_SUBORDINATE = re.compile(
    r"\b(?:who|which|that|if|because|and|or|but|when|while|once|until|so|after|before|where|how|what"
    r"|whether|not|no|than)\b"
)
_DEFINITION = re.compile(
    r"(?P<article>(?:A|An|The) )?(?P<term>[A-Z]?[\w'’-]+(?: [\w'’-]+){0,2}?) (?:is|are) "
    r"(?P<rest>(?:a|an|the|any) (?!(?:very )?(?:important|critical|crucial|essential|good|great) )"
    r"(?!(?:\w+ )?(?:example|form|type|part|kind|result|reason|way|goal"
    r"|aim|core|key|topic|set|number|case)\b)(?:(?!\b(?:whereas|although|but|while)\b).){25,})$"
)
#: The kinds of facts, in the order in which a sentence is asked for them.
KINDS_OF_FACTS = (*_PATTERNS, "definition", "ending", "term")

_VAGUE = frozenset(
    words(
        "one ones way ways thing things example part parts case cases times time place number same"
        " shown pictured seen outside inside there all it them this that others problem risk"
        " anything everything something since instead"
    )
)
# Nouns that only get their meaning from what stands around them ("shell nouns", Schmid 2000): where
# one of them fits, another fits as well.
_SHELL = frozenset(
    words(
        "ability access activity aim amount approach area aspect attempt attention basis"
        " beginning capability category cause challenge change characteristic choice"
        " circumstance close combination component concept condition consequence consideration"
        " content context creation decision degree detail development difference difficulty"
        " effect effectiveness effort element end event everyone existence expense experience"
        " expertise extent fact factor feature first form function goal growth history hundred"
        " idea impact implementation importance incident increase information introduction issue"
        " item kind knowledge lack last level likelihood limit limitation list manner material"
        " matter meaning means measure method million model nature need objective operation"
        " opportunity option order outcome pattern period person perspective point position"
        " possibility potential practice presence principle procedure process product promise"
        " property purpose quality quantity question range rate reality reason region relation"
        " result role scale scope scratch second section sense sequence series set significance"
        " situation size solution sort source stage stance stand standard state status step"
        " structure subject success system task technique tendency term third thousand tool"
        " topic transition type use value variety version view volume weakness work world year"
    )
)
# Chunks that may hold the rarest word of an answer: what is everywhere is no answer of one place.
_RARE = 2
# The share of chunks in which a thing is the same everywhere.
_EVERYWHERE = 0.25
# Where there are so many chunks, "the market" is one of many.
_MANY = 500
_OF_EVENTS = frozenset(("date", "time", "money", "percentage", "day", "month", "year", "number"))
_ANCHOR = re.compile(r"\b[A-Z][\w’-]+|\d|[“\"]")
_AUXILIARIES = [[verb] for verb in VERBS]
# What may stand before and after a name that is a whole phrase.
_BEFORE_NAME = frozenset(
    words("is was are were by in at of from to called named as with near on the sold under behind")
)
_AFTER_NAME = frozenset(
    words(
        "is was are were has had and in on at by from to of with for as that who which every each"
    )
)


def find_facts(chunks: Sequence[Chunk]) -> Iterator[Fact]:
    """Yield the facts of chunks in their order; a sentence is asked for one part."""
    spread = Counter(word for chunk in chunks for word in set(words(chunk.text)))
    seen: set[tuple[str, ...]] = set()
    several = {word for word, count in spread.items() if _RARE < count < len(chunks) * _EVERYWHERE}
    for chunk in chunks:
        for sentence in standing_sentences(chunk, several):
            wording = tuple(words(sentence))
            if wording not in seen:
                seen.add(wording)
                facts = _facts_of(sentence, chunk, spread)
                if len(chunks) >= _MANY:
                    facts = filter(_is_anchored, facts)
                yield from islice(facts, 1)


def _is_anchored(fact: Fact) -> bool:
    """Whether a fact can be told from the many of a large corpus.

    An event or an amount by a name, a number or a quotation beside it; not what something "is".
    """
    beside = fact.before[1:] + fact.after
    if fact.kind == "ending":
        return fact.slot.split()[-1] not in VERBS or fact.answer.startswith(("a ", "an ", "the "))
    return fact.kind not in _OF_EVENTS or _ANCHOR.search(beside) is not None


def kind_of_answer(answer: str) -> str:
    """The kind of fact that an answer by itself looks like; "phrase" where it is none of them."""
    for kind, finder in _FINDERS.items():
        match = finder.search(f"it is in {answer} times")
        if match is not None and match[match.lastgroup or 0] == answer:
            return kind
    return "phrase"


def _facts_of(sentence: str, chunk: Chunk, spread: Counter[str]) -> Iterator[Fact]:
    for kind, finder in _FINDERS.items():
        for match in finder.finditer(sentence):
            start, end = match.span("part" if "part" in finder.groupindex else 0)
            fact = Fact(sentence, sentence[start:end], start, kind, chunk, _slot(sentence, start))
            if _says_once(fact) and (kind not in _CHECKS or _CHECKS[kind](fact, spread)):
                yield fact
    yield from _defined(sentence, chunk, spread)
    yield from _ending(sentence, chunk, spread)
    yield from _terms(sentence, chunk, spread)


def _says_once(fact: Fact) -> bool:
    """Whether the rest of the sentence does not hold the answer."""
    return not contains(fact.before, fact.answer) and not contains(fact.after, fact.answer)


_NO_COUNT = [
    [word] for word in words("the these those no step other original next last first every each")
]
_OF_RANGE = re.compile(rf"(?:{_DIGITS}|{SPOKEN}) (?:or|to) $")
_BEFORE_YEAR = [[word] for word in words("in by since until around circa after before")]
_DASHES = ("– ", "- ", "— ")


def _is_count(fact: Fact, _: Counter[str]) -> bool:
    """Whether a number counts what follows it."""
    before, after = words(fact.before), words(fact.after)
    counted = after[0].endswith("s") or after[0] in ("people", "children", "per")
    vague = before[-1:] in _NO_COUNT or before[-2:] == ["one", "of"]
    year = before[-1:] in _BEFORE_YEAR and re.fullmatch(r"\d{3,4}", fact.answer) is not None
    part = _OF_RANGE.search(fact.before) is not None or fact.before[-2:] in _DASHES
    return bool(before) and counted and not (vague or year or part)


def _is_name(fact: Fact, spread: Counter[str]) -> bool:
    """Whether a capitalised run is a whole name that few places speak of."""
    before, after = words(fact.before), words(fact.after)
    if not _is_rare(fact.answer, spread) or re.search(r"[a-z]{4}[A-Z]", fact.answer):
        return False
    if re.match(r",? (?:and|or)\b|, [A-Z]|-", fact.after) or fact.before.endswith(("and ", "or ")):
        return False
    if not before:  # a verb, and no noun that belongs to the name: "Dong Son drums have"
        verb = bool(after) and (after[0] in VERBS or after[0].endswith("s"))
        adverb = fact.answer.split()[0].endswith("ly")
        return verb and not adverb and (after[0] in VERBS or after[1:2] not in _AUXILIARIES)
    return before[-1] in _BEFORE_NAME and (
        fact.after[:1] in ".,;" or (bool(after) and after[0] in _AFTER_NAME)
    )


def _is_rare(answer: str, spread: Counter[str]) -> bool:
    return min((spread[word] for word in words(answer)), default=0) <= _RARE


_CHECKS = {"number": _is_count, "name": _is_name}


def _slot(sentence: str, start: int) -> str:
    return " ".join(words(sentence[:start])[-2:])


def _defined(sentence: str, chunk: Chunk, spread: Counter[str]) -> Iterator[Fact]:
    match = _DEFINITION.match(sentence)
    if match is None:
        return
    spoken, inside = words(match["term"]), set(words(match["rest"]))
    known = all(spread[word] > 1 for word in spoken) and spoken[0] not in OPENERS
    known = known and len(match["term"]) > 1 and "," not in match["term"]
    plain = POINTERS.isdisjoint(spoken) and _VAGUE.isdisjoint(spoken) and inside.isdisjoint(spoken)
    if known and plain and not spoken[0].endswith("ing"):
        yield Fact(sentence, match["term"], match.start("term"), "definition", chunk)


def _singulars(noun: str) -> set[str]:
    """What a noun may be the plural of, and itself."""
    return {noun, noun.removesuffix("s"), noun.removesuffix("es"), f"{noun.removesuffix('ies')}y"}


def _ending(sentence: str, chunk: Chunk, spread: Counter[str]) -> Iterator[Fact]:
    if "," in sentence or len(words(sentence)) > _PLAIN or _SUBORDINATE.search(sentence):
        return
    match = _ENDING.search(sentence)
    if match is None or not _is_rare(match["part"], spread):
        return
    spoken = words(match["part"])
    plain = not any(word.endswith(("ly", "ed")) for word in spoken)
    plain = plain and spoken[0] not in ("more", "most", "less", "least")
    if plain and _VAGUE.isdisjoint(spoken) and POINTERS.isdisjoint(spoken):
        slot = " ".join(words(match["slot"]))
        fact = Fact(sentence, match["part"], match.start("part"), "ending", chunk, slot)
        if _says_once(fact):
            yield fact


def _terms(sentence: str, chunk: Chunk, spread: Counter[str]) -> Iterator[Fact]:
    """The rarest noun of a sentence that other chunks have too; nouns are told by their place."""
    if len(words(sentence)) < _LONG or "," in sentence:
        return
    nouns = [
        match
        for match in _NOUN.finditer(sentence)
        if spread[match["part"]] > 1
        and match["part"] not in _VAGUE
        and not _singulars(match["part"]) & _SHELL
    ]
    if nouns:
        match = min(nouns, key=lambda match: (spread[match["part"]], -match.start()))
        fact = Fact(sentence, match["part"], match.start("part"), "term", chunk)
        if _says_once(fact):
            yield fact
