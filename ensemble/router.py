"""Where a question goes, and why.

Who decides, in this order: the domain that somebody named, the keywords, the small classifier
where it is surer than they are. What none of them is sure enough of goes to the base model, and so
does what belongs to a field that is no target, is empty, foreign or code.
"""

from __future__ import annotations

import math
import re
from bisect import insort
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

from domainlift.errors import NoSuch
from ensemble.classifier import unpacked
from ensemble.guards import refusal
from ensemble.keywords import Keywords
from ensemble.patterns import SEEN, compiled
from ensemble.terms import Lexicon

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Rung = Literal["domain", "keywords", "classifier", "base"]
BASE: Literal["base"] = "base"
_SHOWN = 8


@dataclass(frozen=True)
class Route:
    """Where a question goes: `domain`, or None for the base model; `rung` says who decided.

    `matched` are the terms that weighed most for the best domain, with their shares of its score.
    `probability` is that of the decision, calibrated; `margin` what it is ahead of `runner_up`,
    the next best (a domain, `base`, or None), below 0 where a threshold held it back.
    """

    domain: str | None
    rung: Rung
    matched: tuple[tuple[str, float], ...] = ()
    probability: float = 1.0
    margin: float = 1.0
    runner_up: str | None = None
    reason: str = ""


class Router:
    """Routes questions to the `targets` among the domains of a keyword file (None: all).

    Domains that the file knows and that are no targets speak for the base model.
    """

    def __init__(self, keywords: Keywords, targets: Collection[str] | None = None) -> None:
        self.keywords = keywords
        self.targets = tuple(keywords.domains) if targets is None else tuple(targets)
        for name in self.targets:
            if name not in keywords.domains:
                raise NoSuch("domain in the keyword file", name, keywords.domains)
        self._few, self._many = _scales(keywords)
        self._patterns = _patterns(keywords)
        self._lexicon, self._weights = _arranged(self._few, self._many, self._patterns)
        self._columns = self._weights.T.copy()  # contiguous: a column is read per question

    def route(self, text: str, options: Sequence[str] = (), domain: str | None = None) -> Route:
        """Decide where a question goes; `domain` overrides everything else."""
        if domain is not None:
            if domain not in self.keywords.domains:
                raise NoSuch("domain", domain, self.keywords.domains, "bench domains")
            return Route(domain, "domain", reason="the domain was named")
        parts = (text, *options)
        places, words = self._lexicon.find(parts)
        why = refusal(text, words)
        if why:
            return Route(None, BASE, reason=why)
        if self._patterns:
            places += self._matching(parts)
        if not places:
            return Route(None, BASE, reason="it holds nothing that speaks for a domain")
        root = math.sqrt(len(words))
        totals = self._weights.take(places, axis=0).sum(axis=0) / root
        return self._decided(self._opinion(totals), places, root)

    def _matching(self, parts: Sequence[str]) -> list[int]:
        """The places of the patterns that match; they stand after all terms."""
        seen = " ".join(parts)[:SEEN]
        start = len(self._lexicon.terms)
        return [start + n for n, p in enumerate(self._patterns) if p.made.search(seen)]

    def _opinion(self, totals: NDArray[np.float32]) -> _Opinion:
        """That of the keywords, or of the classifier where it is surer than they are."""
        first = self._weighed("keywords", self._few, totals)
        if self._many is None or first.probability >= self.keywords.calibration.sure:
            return first
        if first.name != BASE and first.name not in self._many.names:
            return first  # the classifier does not know this domain, and so is sure of others
        second = self._weighed("classifier", self._many, totals)
        return second if second.probability > first.probability else first

    def _weighed(self, rung: Rung, scale: _Scale, totals: NDArray[np.float32]) -> _Opinion:
        scores = (totals[scale.start : scale.end] + scale.bias) / scale.temperature
        shares = [math.exp(score) for score in (scores - scores.max()).tolist()]
        whole = sum(shares)
        held = dict(zip(scale.names, shares, strict=True))
        ranked = sorted([(held.pop(name, 0.0) / whole, name) for name in self.targets])
        other = max(held, key=held.__getitem__) if held else ""
        base = sum(held.values()) / whole
        if held:
            insort(ranked, (base, BASE))
        second, runner_up = ranked[-2] if len(ranked) > 1 else (0.0, None)
        return _Opinion(rung, ranked[-1][1], ranked[-1][0], runner_up, second, other, base)

    def _decided(self, found: _Opinion, places: list[int], root: float) -> Route:
        best = found.name if found.name != BASE else found.other
        matched = self._matched(found.rung, best, places, root)
        margin = found.probability - found.second
        if found.name == BASE:
            why = f"it looks like {found.other}, which is no target"
            return _route(None, BASE, matched, found.probability, margin, found.runner_up, why)
        threshold = self.keywords.calibration.threshold
        if found.probability < threshold:
            why = f"{best} has a probability of {found.probability:.2f}, below {threshold:.2f}"
            margin = found.base - found.probability
            return _route(None, BASE, matched, found.base, margin, best, why)
        why = f"{found.rung}: {', '.join([term for term, _ in matched[:3]])}"
        return _route(best, found.rung, matched, found.probability, margin, found.runner_up, why)

    def _matched(
        self, rung: Rung, name: str, places: list[int], root: float
    ) -> tuple[tuple[str, float], ...]:
        """The terms that weigh most for or against a domain, strongest first."""
        scale = self._many if rung == "classifier" and self._many is not None else self._few
        column = scale.start + scale.names.index(name)
        weights = self._columns[column].take(places)
        order = (-abs(weights)).argsort(kind="stable")[:_SHOWN].tolist()
        held = weights[order].tolist()
        return tuple(
            [
                (self._name(places[n]), round(weight / root, 3))
                for n, weight in zip(order, held, strict=True)
                if weight
            ]
        )

    def _name(self, place: int) -> str:
        terms = self._lexicon.terms
        return terms[place] if place < len(terms) else self._patterns[place - len(terms)].text


# --- the parts


class _Opinion(NamedTuple):
    """What one rung thinks.

    The best of targets and base model with its probability, the second, the best domain that is
    no target, and the probability of all those together.
    """

    rung: Rung
    name: str
    probability: float
    runner_up: str | None
    second: float
    other: str
    base: float


@dataclass(frozen=True)
class _Scale:
    """The columns `start` to `end` of the weights: one for each name."""

    names: tuple[str, ...]
    bias: NDArray[np.float32]
    temperature: float
    start: int
    end: int
    weights: Mapping[str, NDArray[np.float32]]


class _Pattern(NamedTuple):
    text: str
    made: re.Pattern[str]
    domain: str
    weight: float


def _scales(keywords: Keywords) -> tuple[_Scale, _Scale | None]:
    """The keywords and the classifier, each as the columns that it will have."""
    import numpy as np

    names = tuple(keywords.domains)
    held: dict[str, NDArray[np.float32]] = {}
    for number, domain in enumerate(keywords.domains.values()):
        for term, weight in domain.terms.items():
            held.setdefault(term, np.zeros(len(names), dtype=np.float32))[number] = weight
    bias = np.array([d.bias for d in keywords.domains.values()], dtype=np.float32)
    few = _Scale(names, bias, keywords.calibration.temperature, 0, len(names), held)
    if not keywords.classifier:
        return few, None
    found = unpacked(keywords.classifier)
    rows = dict(zip(found.terms, found.weights, strict=True))
    end = len(names) + len(found.domains)
    return few, _Scale(found.domains, found.bias, found.temperature, len(names), end, rows)


def _patterns(keywords: Keywords) -> list[_Pattern]:
    return [
        _Pattern(pattern, compiled(pattern), name, weight)
        for name, domain in keywords.domains.items()
        for pattern, weight in domain.patterns.items()
    ]


def _arranged(
    few: _Scale, many: _Scale | None, patterns: Sequence[_Pattern]
) -> tuple[Lexicon, NDArray[np.float32]]:
    """All known terms, and one row of weights for each and for each pattern after them."""
    import numpy as np

    scales = [few] if many is None else [few, many]
    lexicon = Lexicon(term for scale in scales for term in scale.weights)
    weights = np.zeros((len(lexicon.terms) + len(patterns), scales[-1].end), dtype=np.float32)
    for row, term in enumerate(lexicon.terms):
        for scale in scales:
            if term in scale.weights:
                weights[row, scale.start : scale.end] = scale.weights[term]
    for row, pattern in enumerate(patterns, len(lexicon.terms)):
        # A pattern that somebody wrote by hand speaks to both.
        for scale in scales:
            if pattern.domain in scale.names:
                weights[row, scale.start + scale.names.index(pattern.domain)] = pattern.weight
    return lexicon, weights


def _route(
    domain: str | None,
    rung: Rung,
    matched: tuple[tuple[str, float], ...],
    probability: float,
    margin: float,
    runner_up: str | None,
    reason: str,
) -> Route:
    return Route(domain, rung, matched, round(probability, 6), round(margin, 6), runner_up, reason)
