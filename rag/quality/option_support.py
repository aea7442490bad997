"""Option support: multiple choice solved by the words of retrieved passages, without a model.

Its accuracy says whether a corpus knows anything about the questions, before a model is asked.
An option is compared with the question in two ways:

- how much of what it says beyond the question stands in the passages found for the question;
- how much of the question stands in the passages found for the option.

The second is more than retrieval for a model may do, which sees the question alone: passages
chosen by the options would tell the model which options there are passages for. Here nothing is
shown to any model.

What a text says is measured by its terms' rarity (idf among all passages found). A short or a
common option is easily covered by any passage, and the right option is often the longest one; so
both values are taken against those of the same option with other questions, in standard
deviations. What an option has in common with every question thus speaks neither for it nor
against it, and on a corpus that knows nothing of the questions the accuracy is that of guessing.
"""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from functools import cache
from random import Random
from typing import TYPE_CHECKING

from domainlift.text.terms import terms_of

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from domainlift.types import Question
    from rag.base import Hit

    Values = NDArray[np.float64]

#: The best chunks for each query, best first.
Search = Callable[[Sequence[str], int], Sequence[Sequence["Hit"]]]
Terms = Set[str]
Profile = Mapping[str, float]

PASSAGES = 10
_SAMPLE = 200  # other questions with which an option is tried
_LEAST_SPREAD = 0.02  # where an option stands in hardly any passage, one passage is no proof
_DIGITS = 9  # beyond them, a difference of two scores is one of rounding
_ROUNDING = 1e-9


@dataclass(frozen=True)
class Guess:
    """The option with most support; `margin` is how far the next one stays behind."""

    question: str
    chosen: int
    correct: bool
    margin: float


@dataclass(frozen=True)
class SupportResult:
    """Guesses by support; `chance` is the mean accuracy of random guessing."""

    n: int
    correct: int
    chance: float
    guesses: tuple[Guess, ...]


def option_support(
    questions: Sequence[Question], search: Search, *, k: int = PASSAGES
) -> SupportResult:
    """Guess every question that has options, by the `k` passages that `search` finds per query.

    Of options with equal support one is taken by the question's id: no letter is favoured, and
    a repeated probe says the same.
    """
    asked = [question for question in questions if question.options]
    options = [option for question in asked for option in question.options]
    library = _Library()
    found = [library.put(hits) for hits in _search(search, [q.text for q in asked], k)]
    fitting = [library.put(hits) for hits in _search(search, options, k)]
    support = _Support(library, asked, found)
    names = iter(fitting)
    guesses = tuple(
        _guess(question, [support.score(row, option, next(names)) for option in question.options])
        for row, question in enumerate(asked)
    )
    return SupportResult(
        n=len(asked),
        correct=sum(guess.correct for guess in guesses),
        chance=sum(q.chance for q in asked) / len(asked) if asked else 0.0,
        guesses=guesses,
    )


def _search(search: Search, queries: Sequence[str], k: int) -> Sequence[Sequence[Hit]]:
    return search(queries, k) if queries else []


def _guess(question: Question, scores: Sequence[float]) -> Guess:
    rounded = [round(score, _DIGITS) for score in scores]
    best = max(rounded)
    tied = [option for option, score in enumerate(rounded) if score == best]
    digest = hashlib.sha256(question.id.encode("utf-8", "replace")).digest()
    chosen = tied[int.from_bytes(digest[:8], "big") % len(tied)]
    margin = best - max((s for o, s in enumerate(rounded) if o != chosen), default=best)
    return Guess(question.id, chosen, chosen == question.answer, margin)


class _Library:
    """The terms of every passage that was found, each once."""

    def __init__(self) -> None:
        self.passages: dict[str, Terms] = {}

    def put(self, hits: Iterable[Hit]) -> list[str]:
        """Take in what was found, and return the passages' names in their order."""
        names = []
        for hit in hits:
            name = hit.chunk.id
            if name not in self.passages:
                self.passages[name] = frozenset(terms_of(hit.chunk.indexed))
            names.append(name)
        return names


class _Support:
    """Overlap of the passages of a question with an option, and the reverse."""

    def __init__(
        self, library: _Library, asked: Sequence[Question], found: Sequence[Sequence[str]]
    ) -> None:
        self._library = library
        self._weights = _rarity(library.passages.values())
        # A term in no passage is as rare as can be.
        self._unknown = math.log(1 + (len(library.passages) + 0.5) / 0.5)
        self._questions = [frozenset(terms_of(question.text)) for question in asked]
        self._found = [self._profile(names) for names in found]
        self._sample = Random(0).sample(range(len(asked)), min(len(asked), _SAMPLE))
        self._others = _Others(
            [self._questions[row] for row in self._sample],
            [self._found[row] for row in self._sample],
            self._weight,
        )

    def score(self, row: int, option: str, fitting: Sequence[str]) -> float:
        """The score of an option of the question in `row`; `fitting` are its own passages."""
        terms, passages = frozenset(terms_of(option)), self._profile(fitting)
        beyond = self._share(terms, self._questions[row], self._found[row])
        asked = self._share(self._questions[row], terms, passages)
        own = self._sample.index(row) if row in self._sample else None
        return _standing(beyond, self._others.beyond(terms), own) + _standing(
            asked, self._others.asked(terms, passages), own
        )

    def _profile(self, names: Sequence[str]) -> Profile:
        """For each term the share of the passages that hold it; a passage counts 1 / its rank."""
        profile: dict[str, float] = {}
        total = math.fsum(1 / rank for rank in range(1, len(names) + 1))
        for rank, name in enumerate(names, 1):
            for term in self._library.passages[name]:
                profile[term] = profile.get(term, 0.0) + 1 / rank / total
        return profile

    def _share(self, terms: Terms, known: Terms, profile: Profile) -> float:
        """Share of the terms that are not `known` and occur in the passages."""
        new = terms - known if terms - known else terms
        # `fsum`, because a set of texts has another order in another process.
        total = math.fsum(self._weight(term) for term in new)
        held = math.fsum(self._weight(term) * profile[term] for term in new if term in profile)
        return held / total if total else 0.0

    def _weight(self, term: str) -> float:
        return self._weights.get(term, self._unknown)


class _Others:
    """The shares of one option with a sample of questions, computed for all of them at once."""

    def __init__(
        self, questions: Sequence[Terms], found: Sequence[Profile], weight: Callable[[str], float]
    ) -> None:
        import numpy as np

        self._weight = weight
        terms = sorted(set[str]().union(*questions))
        self._columns = {term: column for column, term in enumerate(terms)}
        #: The weight of each term for each question that holds it.
        self._terms = np.zeros((len(questions), len(terms)))
        for row, question in enumerate(questions):
            for term in question:
                self._terms[row, self._columns[term]] = weight(term)
        self._totals = self._terms.sum(axis=1)

        @cache
        def held(term: str) -> Values:
            return np.array([profile.get(term, 0.0) for profile in found])

        self._held = held

    def beyond(self, option: Terms) -> Values:
        """Share of the option in each question's passages that is not in the question."""
        import numpy as np

        totals, new_totals, sums, new_sums = np.zeros((4, len(self._totals)))
        for term in sorted(option):
            weight, held = self._weight(term), self._held(term)
            new = self._terms[:, self._columns[term]] == 0 if term in self._columns else 1.0
            totals += weight
            sums += weight * held
            new_totals += weight * new
            new_sums += weight * held * new
        return _shares(new_sums, new_totals, sums, totals)

    def asked(self, option: Terms, passages: Profile) -> Values:
        """Share of each question in the option's passages that is not in the option."""
        import numpy as np

        held = np.zeros(len(self._columns))
        for term in passages.keys() & self._columns.keys():
            held[self._columns[term]] = passages[term]
        known = [self._columns[term] for term in sorted(option & self._columns.keys())]
        sums, weights = self._terms @ held, self._terms[:, known]
        new_sums = sums - weights @ held[known]
        return _shares(new_sums, self._totals - weights.sum(axis=1), sums, self._totals)


def _shares(new_sums: Values, new_totals: Values, sums: Values, totals: Values) -> Values:
    """Share held of the new terms, and of all where none is new."""
    import numpy as np

    nothing_new = new_totals < _ROUNDING
    above, below = np.where(nothing_new, (sums, totals), (new_sums, new_totals))
    shares: Values = np.where(below < _ROUNDING, 0.0, above / np.maximum(below, _ROUNDING))
    return shares


def _standing(value: float, others: Values, own: int | None) -> float:
    """Standard deviations by which a value lies above the others; `own` is its place."""
    import numpy as np

    rest = others if own is None else np.delete(others, own)
    if not len(rest):
        return value
    return (value - float(rest.mean())) / (float(rest.std()) + _LEAST_SPREAD)


def _rarity(passages: Iterable[Terms]) -> Mapping[str, float]:
    """BM25's idf, in the variant that is never below 0."""
    counts: Counter[str] = Counter()
    total = 0
    for terms in passages:
        counts.update(terms)
        total += 1
    return {t: math.log(1 + (total - n + 0.5) / (n + 0.5)) for t, n in counts.items()}
