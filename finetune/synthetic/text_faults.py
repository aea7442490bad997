"""Faults in the words of a generated text: what no log-probability is needed for.

A statement or an answer with its question must be told by one place of the passage: its terms
stand in two neighbouring sentences, or in the heading. Words that stand far apart in a passage and
together in a statement are how small models make up facts.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from domainlift.text.normalise import contains_run, words, words_and_signs
from domainlift.text.terms import terms_of
from finetune.data.sources.sentences import sentences
from finetune.synthetic.prompts import KINDS, Excerpt, GeneratedText, is_layout, title_of

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
# A text has none of the labels that questions and replies have.
_LABELS = re.compile(r"^\W*(?:Question|Answer|Reply|Student|Teacher)\W*:", re.MULTILINE)
_DEFINITE = re.compile(r"\bthe (\w+)")
# Terms at the beginning of a sentence that may name what it is about.
_SUBJECT = 2
# What a question asks for, told by its words: a time, an amount, or a name.
_TIME = re.compile(r"when\b|.*\b(?:which|what|the) (?:time|date|day|month|year)\b", re.IGNORECASE)
_AMOUNT = re.compile(
    r"how (?:many|much|long|high|far|old|heavy|deep|wide|large|big|fast|often)\b"
    r"|.*\b(?:number|length|height|weight|cost|price|duration|capacity|distance|depth|width|age"
    r"|speed|temperature|percentage|share)\b",
    re.IGNORECASE,
)
_NAMED = re.compile(
    r"who(?:se)?\b|where\b|which\b|.*\b(?:names?|called|named)\b"
    r"|.*\b(?:which|what) (?:place|town|city|country|street|island)\b(?! (?:is|was|are|were)\b)",
    re.IGNORECASE,
)
_MANY = re.compile(r"how many (\w+)", re.IGNORECASE)
#: A question with one of these is English; of other languages the rules know no question words.
_ENGLISH = frozenset(words("a the of is are was were do does did what which how why"))
_ARTICLES, _MORE = (["a"], ["an"], ["the"]), (["and"], ["or"], ["of"])
_BE = frozenset(words("is are was were be been being"))
#: Words from a number to what it counts: "52 held-out questions".
_COUNTED = 3
_TIMES = frozenset(
    words("every day days night week weeks month months year years morning noon evening hours")
    + words("monday tuesday wednesday thursday friday saturday sunday january february march april")
    + words("may june july august september october november december")
)
_CLAUSE = r"(?:(?!\b(?:who|which|that|what|where|when|whose|how|and|or|but|if|because)\b|[,;:]).)*"
_TWO_VERBS = re.compile(rf"{_CLAUSE}\b(?:is|are|was|were)\b{_CLAUSE}\b(?:is|are|was|were)\b")
# What speaks of something that was named before.
_POINTERS = frozenset(
    words("it its he him his she her hers they them their theirs this these those")
)
# What does so wherever it stands, where a sentence is all that there is.
_BACK = frozenset(words("it him them this these those"))
_THERE = re.compile(r"\bthere\b(?! (?:is|are|was|were)\b|'s)", re.IGNORECASE)
#: What a question may ask of a thing, and words of which the sentence that tells it has one.
_TOLD_BY = {
    re.compile(rf"\b(?:{asked})\b", re.IGNORECASE): frozenset(terms_of(told))
    for asked, told in {
        "name": "name named call called know known sell sold type kind",
        "(?:time|date|day|month|year) (?:of|that)": "time date day month year",
        "length|height|depth|width|distance": "length height depth width distance long high deep "
        "wide tall far away metre meter kilometre kilometer centimetre centimeter mile foot feet "
        "inch yard m km cm mm",
        "weight|how heavy": "weight weigh heavy kilogram gram ton tonne pound ounce kg g",
        "cost|price": "cost price pay paid charge fee worth euro dollar crown pound franc cent",
        "duration|age|how old": "duration age old last take second minute hour day week month year",
    }.items()
}
_TOLD_ANSWER = 0.75
_NEGATIONS = frozenset(words("no not never nobody nothing none without neither nor cannot"))


#: Least shares, fitted on labelled pieces (docs/training-data.md): of the terms of a statement, and
#: of a question with its answer, that one place has; and of its sentence's terms that a piece has.
TOLD, TOLD_QUESTION, TELLS = 0.8, 0.6, 0.5


def text_fault(piece: GeneratedText, excerpt: Excerpt) -> str:
    """The first fault in the words of a text, "" without one."""
    fault = next((reason for reason, is_wrong in _FAULTS.items() if is_wrong(piece, excerpt)), "")
    return fault if fault else _untold(piece, excerpt)


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
def _places(excerpt: Excerpt) -> tuple[_Place, ...]:
    heading = _terms(title_of(excerpt))
    every = _terms(_source(excerpt))
    places: list[_Place] = []
    named: frozenset[str] = frozenset()
    rest = _terms(excerpt.passage.text)
    for sentence in sentences(excerpt.passage.text):
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


def _best_place(piece: GeneratedText, excerpt: Excerpt) -> _Place | None:
    own = _terms(_all(piece))
    return max(_places(excerpt), key=lambda place: len(own & place.terms), default=None)


def _untold(piece: GeneratedText, excerpt: Excerpt) -> str:
    """What is wrong with the piece beside the sentence of the passage that has most of it."""
    own, answer, asked = _terms(_all(piece)), _terms(piece.text), _terms(piece.question)
    best = _best_place(piece, excerpt)
    if len(own) < 2 or best is None or (piece.question and not asked):
        return "no fact"
    if not answer - asked:
        return "the question holds the answer"
    least = TOLD_QUESTION if piece.question else TOLD
    if len(own & best.terms) < least * len(own):
        return "not told by the passage"
    if len(own & best.own) < TELLS * len(best.own):
        return "tells too little"
    if own & best.elsewhere:
        return "mixes what the passage says apart"
    share = 1.0 if KINDS[piece.kind].row == "exercise" else _TOLD_ANSWER
    if piece.question and len(answer & best.terms) < share * len(answer):
        return "an answer that the passage does not tell"
    if any(a.search(piece.question) and best.own.isdisjoint(t) for a, t in _TOLD_BY.items()):
        return "asks what is not told"
    if not (own & best.terms) - best.heading:
        return "no fact"
    if best.dangling and own.isdisjoint((best.heading | best.subject) - best.own):
        return "does not stand alone"
    negated = _negated(_all(piece))
    if not negated <= best.negated or own & best.negated - negated:
        return "a negation that differs"
    return ""


# --- faults, in the order in which they are looked for


def _empty(piece: GeneratedText, _: Excerpt) -> bool:
    return not piece.text.strip()


def _cut_off(piece: GeneratedText, _: Excerpt) -> bool:
    return not piece.whole


def _no_pair(piece: GeneratedText, _: Excerpt) -> bool:
    return KINDS[piece.kind].asks and len(words_and_signs(piece.question)) < _LEAST_WORDS


def _unprintable(piece: GeneratedText, _: Excerpt) -> bool:
    return not all(c.isprintable() or c == "\n" for c in _all(piece)) or "\ufffd" in _all(piece)


def _foreign(piece: GeneratedText, excerpt: Excerpt) -> bool:
    source = set(_scripts(_source(excerpt)))
    own = list(_scripts(_all(piece)))
    return sum(script not in source for script in own) > _FOREIGN * len(own)


def _marked(piece: GeneratedText, _: Excerpt) -> bool:
    """Whether a part of a prompt or a chat stands in a piece."""
    return is_layout(_all(piece)) or _LABELS.search(_all(piece)) is not None


def _short(piece: GeneratedText, _: Excerpt) -> bool:
    return not piece.question and len(words_and_signs(piece.text)) < _LEAST_WORDS


def _repeats(piece: GeneratedText, excerpt: Excerpt) -> bool:
    """Whether a text goes in circles, or a sentence says a term twice that the passage does not."""
    for sentence in sentences(piece.text):
        spoken = Counter(terms_of(sentence))
        twice = {term for term, count in spoken.items() if count > 1}
        if twice and not any(
            twice <= {t for t, n in Counter(terms_of(told)).items() if n > 1}
            for told in sentences(excerpt.passage.text)
        ):
            return True
    tokens = words_and_signs(_all(piece))
    runs = [tuple(tokens[i : i + 3]) for i in range(len(tokens) - 2)]
    return len(tokens) >= _LONG and len(set(runs)) < _FRESH * len(runs)


def _copied(piece: GeneratedText, excerpt: Excerpt) -> bool:
    """Whether a statement stands in the passage word for word, as most of a statement may."""
    spoken, source = words_and_signs(piece.text), words_and_signs(excerpt.passage.text)
    return not piece.question and contains_run(source, spoken)


def _dangles(piece: GeneratedText, excerpt: Excerpt) -> bool:
    """Whether a piece needs a text before it: it points back, or says `the` of what is not known.

    That is what the passage introduces with `a`, and anything in a statement without a name or a
    word of the title. A question asks for it, and so may say `the` of what it has not named.
    """
    first, spoken = piece.question if piece.question else piece.text, words(_all(piece))
    if _points_back(first) or not _BACK.isdisjoint(spoken) or _THERE.search(_all(piece)):
        return True
    if piece.question:
        return False
    title = words(title_of(excerpt))
    definite = [m[1] for m in _DEFINITE.finditer(" ".join(spoken)) if m[1] not in title]
    named = any(word[0].isupper() for word in _inner_words([first]))
    if definite and not named and _terms(first).isdisjoint(_terms(title_of(excerpt))):
        return True
    told = " ".join(words(excerpt.passage.text))
    return any(
        re.search(rf"\ban? {word}\b", told) and not re.search(rf"\bthe {word}\b", told)
        for word in definite
    )


def _talks(piece: GeneratedText, excerpt: Excerpt) -> bool:
    match = _TALK.search(_all(piece))
    return match is not None and match[0].lower() not in excerpt.passage.text.lower()


def _contains_answer(piece: GeneratedText, _: Excerpt) -> bool:
    """Whether the question holds its answer."""
    return contains_run(words_and_signs(piece.question), words_and_signs(piece.text))


def _other_kind(piece: GeneratedText, excerpt: Excerpt) -> bool:
    """Whether the answer is not seen to be what is asked for: a time, an amount, or a name.

    An English question for anything else is where it is the rest of a sentence that has the answer:
    else no word shows whether "What is the side gate?" asks what it is or when it is locked.
    """
    if not piece.question:
        return False
    asked = set(words(piece.question))
    numbers = [*(Counter(_numbers(piece.text)) - Counter(_numbers(piece.question)))]
    if _TIME.match(piece.question):
        return not numbers and _TIMES.isdisjoint({*words(piece.text)} - asked)
    if _AMOUNT.match(piece.question):
        counted = _MANY.match(piece.question)
        return not numbers or (counted is not None and not _counts(excerpt, numbers, counted[1]))
    if _NAMED.match(piece.question):
        names = {word for word in _inner_words(sentences(_source(excerpt))) if word[0].isupper()}
        own = {word for word in _WORD.findall(piece.text) if word.lower() not in asked}
        return not any(_terms(word) for word in own & names)
    return not (_ENGLISH.isdisjoint(asked) or _completed(piece, excerpt))


def _completed(piece: GeneratedText, excerpt: Excerpt) -> bool:
    """Whether a question says what its sentence says after the answer, or all before the answer.

    "What has the crew painted?" asks for the hull where the crew has painted the hull. After a form
    of "to be" stands an article: the gate may be a door, but what it is is not locked.
    """
    asked, spoken, answer = terms_of(piece.question), words(piece.question), words(piece.text)
    answer = answer[answer[:1] in _ARTICLES :]
    if not asked or not _content(answer[:1]):
        return False
    for told in map(words, sentences(excerpt.passage.text)):
        for at in range(len(told) - len(answer) + 1):
            before, after = told[:at], told[at + len(answer) :]
            if told[at : at + len(answer)] != answer:
                continue
            if before in ([], *_ARTICLES) and _content(after)[: len(asked)] == asked:
                return True
            article = before[-1:] in _ARTICLES
            last = before[: len(before) - article][-1:]
            ends = not _content(after[:1]) and after[:1] not in _MORE
            joined = bool(_content(last)) or not {*last}.isdisjoint(spoken)
            named = article or _BE.isdisjoint(last)
            if ends and joined and named and _content(before) == asked:
                return True
    return False


def _content(spoken: Sequence[str]) -> list[str]:
    return terms_of(" ".join(spoken))


def _counts(excerpt: Excerpt, numbers: Sequence[str], noun: str) -> bool:
    """Whether one of the numbers stands before this noun in the passage."""
    for sentence in sentences(_source(excerpt)):
        spoken = sentence.split()
        for at, word in enumerate(spoken):
            after = " ".join(spoken[at + 1 : at + 1 + _COUNTED])
            if set(_numbers(word.lower())) & {*numbers} and _terms(noun) <= _terms(after):
                return True
    return False


def _garbled(piece: GeneratedText, _: Excerpt) -> bool:
    """Whether a statement has two verbs without a word between that begins a clause."""
    return _TWO_VERBS.match(piece.text) is not None


def _new_number(piece: GeneratedText, excerpt: Excerpt) -> bool:
    # "One" is more often a pronoun than a number.
    return not set(_numbers(_all(piece))) <= {"1", *_numbers(_source(excerpt))}


def _new_name(piece: GeneratedText, excerpt: Excerpt) -> bool:
    source = _source(excerpt)
    inner = list(_inner_words(sentences(excerpt.passage.text)))
    if sum(word[0].isupper() for word in inner) > _CAPITALS * len(inner):
        return False
    stems = {_stem(word) for word in _WORD.findall(source)}
    own = _inner_words([*sentences(piece.question), *sentences(piece.text)])
    return any(word[0].isupper() and _stem(word) not in stems for word in own)


_FAULTS: Mapping[str, Callable[[GeneratedText, Excerpt], bool]] = {
    "empty": _empty,
    "cut off": _cut_off,
    "marks of the prompt": _marked,
    "no question with an answer": _no_pair,
    "not printable": _unprintable,
    "too short": _short,
    "repeats itself": _repeats,
    "in another script": _foreign,
    "speaks of the passage": _talks,
    "does not stand alone": _dangles,
    "copied": _copied,
    "the question holds the answer": _contains_answer,
    "no sentence": _garbled,
    "a number that the passage has not": _new_number,
    "a name that the passage has not": _new_name,
    "an answer of another kind": _other_kind,
}


def _all(piece: GeneratedText) -> str:
    return f"{piece.question}\n{piece.text}" if piece.question else piece.text


def _source(excerpt: Excerpt) -> str:
    return f"{excerpt.passage.source}\n{excerpt.passage.text}"


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
