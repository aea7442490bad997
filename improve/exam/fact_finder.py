"""Facts of documents: a sentence that stands by itself, and the part of it that is asked for.

No model reads here. A fact is a sentence with a part whose kind can be told from its letters
alone: a date, a time, a number, a name, what stands at the end, or the term that it defines. So the
wrong options of a question can be parts of the same kind from other sentences.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice, pairwise, takewhile

from domainlift.text.normalise import words
from finetune.data.sources.sentences import sentences
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
        rf"\b(?:\d{{1,2}} {_MONTH}(?: \d{{4}})?|{_MONTH} \d{{1,2}}(?:, \d{{4}})?"
        rf"|{_MONTH} \d{{4}})\b"
    ),
    "time": r"\b(?:\d{1,2}[:.]\d\d(?: ?[ap]\.?m\b)?|\d{1,2} ?[ap]m\b|(?:half|quarter) past \w+)",
    "money": rf"(?:[€$£] ?{_DIGITS}(?: (?:million|billion))?|\b{_NUMBER} {_COIN})\b",
    "percentage": rf"\b{_NUMBER} ?(?:%|per ?cent\b)",
    "day": rf"(?<!\d )\b(?:{_DAY}s?)\b",
    "month": rf"(?<!\d )\b{_MONTH}\b(?! \d)",
    "year": r"\b(?:[Ii]n|[Bb]y|[Ss]ince|[Uu]ntil|of) (?P<part>1[0-9]{3}|20[0-9]{2})\b(?![%-])",
    "number": rf"(?<![\w.,:#/-])(?:{_NUMBER})(?= [a-z]{{3,}})",
    "name": rf"(?<=[a-z] ){_NAME}\b|^[A-Z][\w’-]*[a-z](?:{_OF})? {_NAME}(?= [a-z])",
}
_FINDERS = {kind: re.compile(pattern) for kind, pattern in _PATTERNS.items()}
_PREPOSITIONS = "of|with|from|by|on|in|at|for|into|as|behind|under|to|through|during|between|over"
# A noun, by what stands before and after it.
_NOUN = re.compile(
    r"\b(?:the|an?|of|by|from|with|as|every|each|[a-z]+(?:al|ic|ous|ive|ed)) "
    r"(?P<part>(?![a-z]*(?:self|selves|ed|ing|ly|able|al|ic|ous|ive|ent|ary|less|est|er)\b)[a-z]{5,})"
    r"(?=\.| (?:is|are|was|were|of|in|on|by|to|from|with|for|that|which|and|or|can|at)\b)"
)
_LONG = 9
#: Words of a plain sentence at most.
_PLAIN = 14
_PLAIN_WORD = rf"(?!(?:{_PREPOSITIONS}|is|are|was|were|has|have)\b)[a-z][\w'’-]*"
# What stands at the end of a plain sentence, after a word that asks for it.
_ENDING = re.compile(
    rf"\b(?P<slot>(?:\w+ )?(?:is|are|was|were|{_PREPOSITIONS}))"
    r" (?P<part>(?:(?:a|an|the|its|their) )?(?![a-z]+(?:ed|ing)\b)"
    rf"(?:{_PLAIN_WORD} ){{0,2}}{_PLAIN_WORD})\.$"
)
_SUBORDINATE = re.compile(
    r"\b(?:who|which|that|if|because|and|or|but|when|while|once|until|so|after|before|where|how|what"
    r"|whether|not|no|than)\b"
)
_DEFINITION = re.compile(
    r"(?P<article>(?:A|An|The) )?(?P<term>[A-Z]?[\w'’-]+(?: [\w'’-]+){0,2}?) (?:is|are) "
    r"(?P<rest>(?:a|an|the|any) (?!(?:\w+ )?(?:example|form|type|part|kind|result|reason|way|goal"
    r"|aim|core|key|topic|set|number|case)\b)(?:(?!\b(?:whereas|although|but|while)\b).){25,})$"
)
#: The kinds of facts, in the order in which a sentence is asked for them.
KINDS_OF_FACTS = (*_PATTERNS, "definition", "ending", "term")

_FEWEST, _MOST = 5, 24
_PROSE = re.compile(r"[A-Z“\"].*[^.!?:;,\s]\.", re.DOTALL)
_NO_PROSE = re.compile(
    r"https?://|[(){}|<>\\`*=/]|_{2,}|\[\d|\.\.|\b(?:e\.g|i\.e)\b", re.IGNORECASE
)
_POINTERS = frozenset(
    words(
        "this that these those it its they them their theirs he him his she her hers such here"
        " there"
        " thus hence therefore however also another other both if when since as because although"
        " while though just many one what note see similarly additionally furthermore moreover"
        " finally first second third next then instead again still yet and but or so for who how"
        " where"
    )
)
# What points back, or at the reader, wherever it stands in a sentence.
_BACK = frozenset(
    words(
        "this these those above below following latter former figure table you your we our us i my"
        " let please he she him his her"
    )
)
# What points back where a sentence has named nothing yet.
_OF_BEFORE = frozenset(words("it its they them their"))
_BEGINNING = 5
_PRONOUN = re.compile(r"(?P<word>It|Its) ")
_OPENERS = frozenset(
    words(
        "the a an every each all most some no everybody whoever anybody nobody only everyone in"
        " on at during from by after before until under between"
    )
)
_VERBS = frozenset(
    words("is are was were has have had can cannot must may will should might could does did")
)
_DETERMINERS = frozenset(words("the a an your its their this that any all each every"))
_BEFORE_OBJECT = frozenset(_PREPOSITIONS.split("|"))
_PERSON_ACTS = re.compile(r"[A-Z][\w’-]+ [A-Z][\w’-]+ [a-z]+s\b")
_VAGUE = frozenset(
    words(
        "one ones way ways thing things example part parts case cases times time place number same"
        " all it them this that others problem risk anything everything something since instead"
    )
)
# Chunks that may hold the rarest word of an answer: what is everywhere is no answer of one place.
_RARE = 2
# The share of chunks in which a thing is the same everywhere.
_EVERYWHERE = 0.25
_THE = re.compile(
    r"\b[Tt]he (?P<thing>[a-z]+)"
    r"(?= (?:[a-z]+s|[a-z]+ed|can|must|may|will|is|was|were|are|has|had)\b|['’])"
)
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
                yield from islice(_facts_of(sentence, chunk, spread), 1)


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


def kind_of_answer(answer: str) -> str:
    """The kind of fact that an answer by itself looks like; "phrase" where it is none of them."""
    for kind, finder in _FINDERS.items():
        match = finder.search(f"it is in {answer} times")
        if match is not None and match[match.lastgroup or 0] == answer:
            return kind
    return "phrase"


def contains(text: str, phrase: str) -> bool:
    """Whether a phrase stands in a text, word for word."""
    return f" {' '.join(words(phrase))} " in f" {' '.join(words(text))} "


def _topic(chunk: Chunk) -> str:
    """The last heading where it is a thing: a few words in lower case but for the first."""
    last = chunk.heading.rpartition(" > ")[2].strip()
    rest = last.split()[1:]
    plain = last.isascii() and 0 < len(last.split()) <= 3 and " and " not in last
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
        and spoken[0] not in _POINTERS
        and _BACK.isdisjoint(spoken)
        and _OF_BEFORE.isdisjoint(spoken[:_BEGINNING])
        and (_is_statement(spoken) or _PERSON_ACTS.match(sentence) is not None)
    )


def _is_statement(spoken: Sequence[str]) -> bool:
    """Whether words begin as a statement does: an order has its object before any auxiliary."""
    if spoken[0] in _OPENERS:
        return True
    subject = list(takewhile(lambda word: word not in _VERBS, spoken))
    objects = [
        word
        for before, word in pairwise(subject)
        if word in _DETERMINERS and before not in _BEFORE_OBJECT
    ]
    return len(subject) < len(spoken) and not objects


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
_DASHES = ("– ", "- ", "— ")


def _is_count(fact: Fact, _: Counter[str]) -> bool:
    """Whether a number counts what follows it."""
    before, after = words(fact.before), words(fact.after)
    counted = after[0].endswith("s") or after[0] in ("people", "children", "per")
    vague = before[-1:] in _NO_COUNT or before[-2:] == ["one", "of"] or fact.before[-2:] in _DASHES
    return bool(before) and not vague and counted


def _is_name(fact: Fact, spread: Counter[str]) -> bool:
    """Whether a capitalised run is a whole name that few places speak of."""
    before, after = words(fact.before), words(fact.after)
    if not _is_rare(fact.answer, spread) or re.search(r"[a-z]{4}[A-Z]", fact.answer):
        return False
    if re.match(r",? (?:and|or)\b|, [A-Z]|-", fact.after) or fact.before.endswith(("and ", "or ")):
        return False
    if not before:
        return bool(after) and (after[0] in _VERBS or after[0].endswith("s"))
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
    known = all(spread[word] > 1 for word in spoken) and spoken[0] not in _OPENERS
    plain = _POINTERS.isdisjoint(spoken) and _VAGUE.isdisjoint(spoken) and inside.isdisjoint(spoken)
    if known and plain and not spoken[0].endswith("ing") and "," not in match["term"]:
        yield Fact(sentence, match["term"], match.start("term"), "definition", chunk)


def _ending(sentence: str, chunk: Chunk, spread: Counter[str]) -> Iterator[Fact]:
    if "," in sentence or len(words(sentence)) > _PLAIN or _SUBORDINATE.search(sentence):
        return
    match = _ENDING.search(sentence)
    if match is None or not _is_rare(match["part"], spread):
        return
    spoken = words(match["part"])
    plain = not any(word.endswith(("ly", "ed")) for word in spoken)
    if plain and _VAGUE.isdisjoint(spoken) and _POINTERS.isdisjoint(spoken):
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
        if spread[match["part"]] > 1 and match["part"] not in _VAGUE
    ]
    if nouns:
        match = min(nouns, key=lambda match: (spread[match["part"]], -match.start()))
        fact = Fact(sentence, match["part"], match.start("part"), "term", chunk)
        if _says_once(fact):
            yield fact
