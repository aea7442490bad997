"""Faults in the words of a question that a model wrote, with its answer, about a passage.

Both must be told by one place of the passage: their terms stand in two neighbouring sentences, or
in the heading. Words that stand far apart in a passage and together in a question are how small
models make up facts.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache

from domainlift.text.normalise import contains_run, words, words_and_signs
from domainlift.text.terms import terms_of
from domainlift.types import Passage
from finetune.data.sources.sentences import sentences

_NUMBER = re.compile(r"\d+(?:[.,:]\d+)*")
_WORD = re.compile(r"[^\W\d_]+")
_SPOKEN = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen "
    "sixteen seventeen eighteen nineteen twenty thirty forty fifty sixty seventy eighty ninety"
)
#: Numbers that are written as words.
_COUNTS = {word: str(n if n <= 20 else 10 * (n - 18)) for n, word in enumerate(_SPOKEN)}
_LEAST_WORDS = 3
# The share of three-word runs that are new, in a text long enough to tell.
_FRESH, _LONG = 0.6, 12
_FOREIGN = 0.05
# Where more of the words within sentences have a capital, capitals do not mark names.
_CAPITALS = 0.2
_TALK = re.compile(
    r"\b(?:(?:this|the|given|above) (?:passage|text|excerpt|article|document|paragraph|author"
    r"|speaker|conversation)s?|mentioned above|as an ai|language model)\b",
    re.IGNORECASE,
)
# What belongs to a prompt or a chat only, and the labels that questions and replies have.
_LAYOUT = re.compile(
    r"</?passages>|<\|\w+\|>|^\W*(?:assistant|user|system)\W*$|^\W*(?:Question|Answer|Reply)\W*:",
    re.MULTILINE,
)
_DEFINITE = re.compile(r"\bthe (\w+)")
# Terms at the beginning of a sentence that may name what it is about.
_SUBJECT = 2
_WHO = re.compile(r"who\b", re.IGNORECASE)
_WHEN = re.compile(r"when\b", re.IGNORECASE)
_MANY = re.compile(r"how (?:many|much)\b", re.IGNORECASE)
_TIMES = frozenset(
    words("every day days night week weeks month months year years morning noon evening hours")
)
# What speaks of something that was named before.
_POINTERS = frozenset(
    words("it its he him his she her hers they them their theirs this these those")
)
# What does so wherever it stands, where a sentence is all that there is.
_BACK = frozenset(words("it him them this these those"))
_THERE = re.compile(r"\bthere\b(?! (?:is|are|was|were)\b|'s)", re.IGNORECASE)
_NAME = re.compile(r"\bname\b", re.IGNORECASE)
_CALLED = frozenset(terms_of("name named call called know known sell sold type kind"))
_NEGATIONS = frozenset(words("no not never nobody nothing none without neither nor cannot"))


#: The least share of the terms of a question with its answer that one place has, fitted on labelled
#: questions (docs/improve.md).
TOLD = 0.6


@dataclass(frozen=True)
class WrittenPair:
    """A question that a model wrote, and its answer."""

    question: str
    answer: str


def question_fault(pair: WrittenPair, passage: Passage) -> str:
    """The first fault in the words of a question about a passage, "" without one."""
    fault = next((reason for reason, is_wrong in _FAULTS.items() if is_wrong(pair, passage)), "")
    return fault if fault else _untold(pair, passage)


@dataclass(frozen=True)
class _Place:
    """A sentence of a passage by its terms, with those of the heading.

    `subject` are terms that name what the sentence may point back to, and `dangling` tells whether
    it says nothing without them. `negated` are terms after a negation, `elsewhere` those of the
    rest of the passage.
    """

    own: frozenset[str]
    heading: frozenset[str]
    subject: frozenset[str]
    dangling: bool
    negated: frozenset[str]
    elsewhere: frozenset[str]

    @property
    def terms(self) -> frozenset[str]:
        return self.own | self.heading | self.subject


@cache
def _places(passage: Passage) -> tuple[_Place, ...]:
    heading = _terms(title_of(passage))
    every = _terms(_source(passage))
    places: list[_Place] = []
    named: frozenset[str] = frozenset()
    rest = _terms(passage.text)
    for sentence in sentences(passage.text):
        own, dangling = _terms(sentence), _points_back(sentence)
        subject = named if not _POINTERS.isdisjoint(words(sentence)) else frozenset()
        elsewhere = every - own - subject - (heading if subject else heading - rest)
        places.append(_Place(own, heading, subject, dangling, _negated(sentence), elsewhere))
        named = _named(sentence) | (named if dangling else frozenset())
    return tuple(places)


def _terms(text: str) -> frozenset[str]:
    return frozenset(terms_of(text))


def _named(sentence: str) -> frozenset[str]:
    """What the next sentence may point back to: the first terms of this one, and names."""
    names = (word for word in _inner_words([sentence]) if word[0].isupper())
    return frozenset([*terms_of(sentence)[:_SUBJECT], *terms_of(" ".join(names))])


def _points_back(text: str) -> bool:
    """Whether a text speaks of something before it has named anything."""
    spoken = itertools.takewhile(lambda word: not terms_of(word), words(text))
    return not _POINTERS.isdisjoint(spoken)


def _negated(text: str) -> frozenset[str]:
    """The term that follows each negation."""
    spoken = words(text)
    after = (spoken[at + 1 :] for at, word in enumerate(spoken) if word in _NEGATIONS)
    return frozenset(term for rest in after for term in terms_of(" ".join(rest))[:1])


def _best_place(pair: WrittenPair, passage: Passage) -> _Place | None:
    own = _terms(_all(pair))
    return max(_places(passage), key=lambda place: len(own & place.terms), default=None)


def _untold(pair: WrittenPair, passage: Passage) -> str:
    """What is wrong beside the sentence of the passage that has most of the terms."""
    own, answer, asked = _terms(_all(pair)), _terms(pair.answer), _terms(pair.question)
    best = _best_place(pair, passage)
    if len(own) < 2 or best is None or not asked:
        return "no fact"
    if not answer - asked:
        return "the question holds the answer"
    if len(own & best.terms) < TOLD * len(own):
        return "not told by the passage"
    if own & best.elsewhere:
        return "mixes what the passage says apart"
    if not answer <= best.terms:
        return "an answer that the passage does not tell"
    if _NAME.search(pair.question) and best.own.isdisjoint(_CALLED):
        return "a name for what has none"
    if not (own & best.terms) - best.heading:
        return "no fact"
    if best.dangling and own.isdisjoint((best.heading | best.subject) - best.own):
        return "does not stand alone"
    negated = _negated(_all(pair))
    if not negated <= best.negated or own & best.negated - negated:
        return "a negation that differs"
    return ""


# --- faults, in the order in which they are looked for


def _no_pair(pair: WrittenPair, _: Passage) -> bool:
    return not pair.answer.strip() or len(words_and_signs(pair.question)) < _LEAST_WORDS


def _unprintable(pair: WrittenPair, _: Passage) -> bool:
    return not all(c.isprintable() or c == "\n" for c in _all(pair)) or "\ufffd" in _all(pair)


def _foreign(pair: WrittenPair, passage: Passage) -> bool:
    source = set(_scripts(_source(passage)))
    own = list(_scripts(_all(pair)))
    return sum(script not in source for script in own) > _FOREIGN * len(own)


def _marked(pair: WrittenPair, _: Passage) -> bool:
    """Whether a part of a prompt or a chat stands in it."""
    return _LAYOUT.search(_all(pair)) is not None


def _repeats(pair: WrittenPair, passage: Passage) -> bool:
    """Whether it goes in circles, or the answer says a term twice that the passage does not."""
    for sentence in sentences(pair.answer):
        spoken = Counter(terms_of(sentence))
        twice = {term for term, count in spoken.items() if count > 1}
        if twice and not any(
            twice <= {t for t, n in Counter(terms_of(told)).items() if n > 1}
            for told in sentences(passage.text)
        ):
            return True
    tokens = words_and_signs(_all(pair))
    runs = [tuple(tokens[i : i + 3]) for i in range(len(tokens) - 2)]
    return len(tokens) >= _LONG and len(set(runs)) < _FRESH * len(runs)


def _dangles(pair: WrittenPair, passage: Passage) -> bool:
    """Whether it needs a text before it: it points back, or says `the` of what is not known.

    That is what the passage introduces with `a`, and anything in a question without a name or a
    word of the title.
    """
    first, spoken = pair.question, words(_all(pair))
    if _points_back(first) or not _BACK.isdisjoint(spoken) or _THERE.search(_all(pair)):
        return True
    title = words(title_of(passage))
    definite = [m[1] for m in _DEFINITE.finditer(" ".join(spoken)) if m[1] not in title]
    named = any(word[0].isupper() for word in _inner_words([first]))
    if definite and not named and _terms(first).isdisjoint(_terms(title_of(passage))):
        return True
    told = " ".join(words(passage.text))
    return any(
        re.search(rf"\ban? {word}\b", told) and not re.search(rf"\bthe {word}\b", told)
        for word in definite
    )


def _talks(pair: WrittenPair, passage: Passage) -> bool:
    match = _TALK.search(_all(pair))
    return match is not None and match[0].lower() not in passage.text.lower()


def _contains_answer(pair: WrittenPair, _: Passage) -> bool:
    """Whether the question holds its answer."""
    return contains_run(words_and_signs(pair.question), words_and_signs(pair.answer))


def _other_kind(pair: WrittenPair, passage: Passage) -> bool:
    """Whether who is answered without a name, when without a time, or how many without a count."""
    answer = words(pair.answer)
    if _MANY.match(pair.question):
        counted = _terms(pair.answer) - _terms(pair.question) - frozenset(_COUNTS)
        return not _numbers(pair.answer) or any(not term.isdigit() for term in counted)
    inner = _inner_words(sentences(_source(passage)))
    named = not {word for word in inner if word[0].isupper()}.isdisjoint(_WORD.findall(pair.answer))
    if _WHO.match(pair.question):
        return bool(_numbers(pair.answer)) or not named
    if _WHEN.match(pair.question):
        return not (named or _numbers(pair.answer) or not _TIMES.isdisjoint(answer))
    return False


def _new_number(pair: WrittenPair, passage: Passage) -> bool:
    # "One" is more often a pronoun than a number.
    return not set(_numbers(_all(pair))) <= {"1", *_numbers(_source(passage))}


def _new_name(pair: WrittenPair, passage: Passage) -> bool:
    source = _source(passage)
    inner = list(_inner_words(sentences(passage.text)))
    if sum(word[0].isupper() for word in inner) > _CAPITALS * len(inner):
        return False
    stems = {_stem(word) for word in _WORD.findall(source)}
    own = _inner_words([*sentences(pair.question), *sentences(pair.answer)])
    return any(word[0].isupper() and _stem(word) not in stems for word in own)


_FAULTS: Mapping[str, Callable[[WrittenPair, Passage], bool]] = {
    "no question with an answer": _no_pair,
    "marks of the prompt": _marked,
    "not printable": _unprintable,
    "repeats itself": _repeats,
    "in another script": _foreign,
    "speaks of the passage": _talks,
    "does not stand alone": _dangles,
    "the question holds the answer": _contains_answer,
    "an answer of another kind": _other_kind,
    "a number that the passage has not": _new_number,
    "a name that the passage has not": _new_name,
}


def _all(pair: WrittenPair) -> str:
    return f"{pair.question}\n{pair.answer}"


def _source(passage: Passage) -> str:
    return f"{passage.source}\n{passage.text}"


def _scripts(text: str) -> Iterator[str]:
    """The script of each letter, as the first word of its name: LATIN, CJK."""
    return (unicodedata.name(c, "?").split()[0] for c in text if c.isalpha())


def _numbers(text: str) -> list[str]:
    """Numbers in digits, those that are words among them."""
    spoken = [_COUNTS[word] for word in words(text) if word in _COUNTS]
    return [*spoken, *(found.replace(",", "") for found in _NUMBER.findall(text))]


def _inner_words(lines: Iterable[str]) -> Iterator[str]:
    """The words that do not begin a sentence, a quotation or what follows a colon."""
    for line in lines:
        for sentence in re.split(r"[:.!?“\"(]\s*", line):
            yield from (word for word in _WORD.findall(sentence)[1:] if word != "I")


def _stem(word: str) -> str:
    return word.casefold().removesuffix("s")


def title_of(passage: Passage) -> str:
    """The topic of a passage: its last heading."""
    return passage.source.rpartition(" > ")[2].strip(" :") or "this"
