"""Router: the domain of a question, and the reason.

Its stages, in the order in which they decide: a domain that the caller named, the keywords, the
classifier where it is surer than they are, and where there are examples, the mean of that and of
what they say. Where targets have sentences of a user's own documents, those have the last word:
what was not sent anywhere goes to the documents that hold a sentence near to it, and what was sent
to documents that hold none does not. All else goes to the base model: what none is sure enough of,
belongs to a field that is no target, is empty, foreign or code.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from domainlift.errors import NoSuch
from ensemble.router.classifier import classifier_from_bytes
from ensemble.router.decision import BASE, RouteDecision, Stage, decide_by_documents
from ensemble.router.documents import EmbedBy, sentences_from_bytes
from ensemble.router.examples import SecondOpinion
from ensemble.router.keywords import Keywords
from ensemble.router.prefilter import unroutable_reason
from ensemble.router.safe_regex import MAX_TEXT, compile_safely
from ensemble.router.tokenize import Vocabulary

#: A text -> the domains of the nearest examples; see `ensemble.router.examples`.
AskExamples = Callable[[str], SecondOpinion]
_SHOWN = 8
# Weights nearer to 0 are named only where a question holds no others.
_FAINT = 0.5
# The mean of three opinions is less sure than it is right: of the powers 1, 1.3, 1.6 and 2, this
# has the least calibration error on MMLU, trivia and the demo left out, whichever two one looks at.
_SHARPER, _THRESHOLD = 1.6, 0.6


class Router:
    """Routes questions to the `targets` among the domains of a keyword file (None: all).

    Domains that the file knows and that are no targets speak for the base model. `examples`, where
    there are any, are asked about every question. With `embed`, sentences of documents are compared
    with what the words send there, and with what they leave to the base model.
    """

    def __init__(
        self,
        keywords: Keywords,
        targets: Collection[str] | None = None,
        examples: AskExamples | None = None,
        embed: EmbedBy | None = None,
    ) -> None:
        self.keywords = keywords
        self._examples = examples
        self._embed = embed
        self.targets = tuple(keywords.domains) if targets is None else tuple(targets)
        for name in self.targets:
            if name not in keywords.domains:
                raise NoSuch("domain in the keyword file", name, keywords.domains)
        self._by_keywords, self._by_classifier = _scales(keywords, self.targets)
        self._patterns = _patterns(keywords)
        self._thresholds = {
            name: keywords.calibration.threshold if domain.threshold is None else domain.threshold
            for name, domain in keywords.domains.items()
        }
        self._lexicon, self._weights = _arranged(
            self._by_keywords, self._by_classifier, self._patterns
        )
        self._bias = _joined([self._by_keywords, self._by_classifier])
        self._columns = self._weights.T.copy()  # contiguous: a column is read per question

    def route(
        self, text: str, options: Sequence[str] = (), domain: str | None = None
    ) -> RouteDecision:
        """Decide where a question goes; `domain` overrides everything else."""
        if domain is not None:
            if domain not in self.keywords.domains:
                raise NoSuch("domain", domain, self.keywords.domains, "bench domains")
            return RouteDecision(domain, "domain", reason="the domain was named")
        decision = self._by_words(text, options)
        if self._embed is None or not self.keywords.sentences or not text.strip():
            return decision
        documents = sentences_from_bytes(self.keywords.sentences)
        own = [name for name in self.targets if name in documents.elsewhere]
        if not own or decision.domain not in (None, *own):
            return decision
        near = documents.nearest(self._embed([text], documents.model)[0], own)
        return decide_by_documents(decision, near)

    def _by_words(self, text: str, options: Sequence[str]) -> RouteDecision:
        parts = (text, *options)
        places, words = self._lexicon.find(parts)
        why = unroutable_reason(text, words)
        if why:
            return RouteDecision(None, BASE, reason=why)
        if self._patterns:
            places += self._matching_patterns(parts)
        if not places and self._examples is None:
            return self._unknown()
        root = math.sqrt(len(words))
        totals = self._weights.take(places, axis=0).sum(axis=0) / root + self._bias
        vote = self._vote(totals.tolist())
        if self._examples is None:
            return self._decided(vote, places, root)
        return self._seconded(vote, self._examples(text), places, root)

    def _seconded(
        self, vote: _StageVote, opinion: SecondOpinion, places: list[int], root: float
    ) -> RouteDecision:
        """The mean of a vote, of the linear model over vectors and of the nearest examples."""
        scale = self._scale(vote.stage)
        own = zip(scale.names, vote.shares, strict=True)
        mean = [
            ((share + 2 * opinion.shares.get(name, 0.0)) / 3) ** _SHARPER for name, share in own
        ]
        whole = sum(mean) or 1.0
        seconded = _ranked(vote.stage, scale, [share / whole for share in mean])
        found = self._decided(seconded, places, root, _THRESHOLD)
        # Where the base model wins, it is what a target lost to that has the example.
        ranked = sorted(opinion.nearest, key=lambda name: -opinion.shares[name])
        shown = [n for n in (found.domain, found.runner_up) if n in opinion.nearest] or ranked[:2]
        nearest = tuple((str(name), opinion.nearest[str(name)]) for name in shown)
        if found.domain is None:
            return replace(found, nearest=nearest)
        why = (
            f"embeddings: near “{opinion.nearest[found.domain]}”"
            if (found.domain in opinion.nearest)
            else found.reason
        )
        return replace(found, decided_by="embeddings", nearest=nearest, reason=why)

    def _unknown(self) -> RouteDecision:
        """Only the bias says how probable it is that no target could help."""
        vote = _weighed("keywords", self._by_keywords, self._bias.tolist())
        if vote.name != BASE:
            vote = vote._replace(runner_up=vote.name, second=vote.probability)
        margin, why = vote.base - vote.second, "it holds nothing that speaks for a domain"
        return _route(None, BASE, (), vote.base, margin, vote.runner_up, why)

    def _matching_patterns(self, parts: Sequence[str]) -> list[int]:
        """The places of the patterns that match; they stand after all terms."""
        seen, start = " ".join(parts)[:MAX_TEXT], len(self._lexicon.terms)
        return [start + n for n, p in enumerate(self._patterns) if p.made.search(seen)]

    def _vote(self, scores: list[float]) -> _StageVote:
        """The vote of the keywords, or of the classifier where it is surer."""
        first = _weighed("keywords", self._by_keywords, scores)
        if self._by_classifier is None or first.probability >= self.keywords.calibration.sure:
            return first
        if first.name not in self._by_classifier.knows:
            return first  # the classifier does not know this domain, and so is sure of others
        second = _weighed("classifier", self._by_classifier, scores)
        return second if second.probability > first.probability else first

    def _decided(
        self, vote: _StageVote, places: list[int], root: float, threshold: float | None = None
    ) -> RouteDecision:
        best = vote.other if vote.name == BASE else vote.name
        second = vote.other if vote.runner_up == BASE else vote.runner_up
        matched = self._matched(vote.stage, best, places, root)
        against = () if second is None else self._matched(vote.stage, second, places, root)
        where, stage, runner_up = vote.name, vote.stage, vote.runner_up
        threshold = self._thresholds.get(vote.name, 0.0) if threshold is None else threshold
        probability, margin = vote.probability, vote.probability - vote.second
        if vote.name == BASE:
            why = f"it looks like {vote.other}, which is no target"
        elif vote.probability < threshold:
            why = f"{best} has a probability of {vote.probability:.2f}, below {threshold:.2f}"
            where, runner_up = BASE, best
            probability, margin = vote.base, vote.base - vote.probability
            against = matched
        else:
            why = f"{vote.stage}: {', '.join([term for term, _ in matched[:3]])}"
        domain, stage = (None, BASE) if where == BASE else (where, stage)
        return _route(domain, stage, matched, probability, margin, runner_up, why, against)

    def _matched(
        self, stage: Stage, name: str, places: list[int], root: float
    ) -> tuple[tuple[str, float], ...]:
        """The terms that weigh most for or against a domain, strongest first."""
        scale = self._scale(stage)
        column = scale.start + scale.names.index(name)
        weights = self._columns[column].take(places).tolist()
        pairs = list(zip(weights, places, strict=True))
        loud = [pair for pair in pairs if not -_FAINT < pair[0] < _FAINT]
        loud = loud if loud else [pair for pair in pairs if pair[0]]
        loud.sort(key=_loudness)
        by = scale.temperature / root
        return tuple([(self._name(place), round(w * by, 3)) for w, place in loud[:_SHOWN]])

    def _scale(self, stage: Stage) -> _LinearScorer:
        many = self._by_classifier if stage == "classifier" else None
        return self._by_keywords if many is None else many

    def _name(self, place: int) -> str:
        terms = self._lexicon.terms
        return terms[place] if place < len(terms) else self._patterns[place - len(terms)].text


# --- the parts


class _StageVote(NamedTuple):
    """Vote of one stage.

    The best of targets and base model with its probability, the second, the best domain that is
    no target, the probability of all those together, and that of each domain.
    """

    stage: Stage
    name: str
    probability: float
    runner_up: str | None
    second: float
    other: str
    base: float
    shares: list[float]


@dataclass(frozen=True)
class _LinearScorer:
    """A stage: its names stand for the columns from `start` on, `targets` for those of targets.

    Its weights and biases are divided by its temperature already.
    """

    names: tuple[str, ...]
    bias: NDArray[np.float32]
    temperature: float
    start: int
    weights: Mapping[str, NDArray[np.float32]]
    targets: tuple[tuple[int, str], ...]
    rest: tuple[tuple[int, str], ...]
    knows: frozenset[str]

    @property
    def end(self) -> int:
        return self.start + len(self.names)


def _weighed(stage: Stage, scale: _LinearScorer, scores: list[float]) -> _StageVote:
    own = scores[scale.start : scale.end]
    top = max(own)
    shares = [math.exp(score - top) for score in own]
    whole = sum(shares)
    return _ranked(stage, scale, [share / whole for share in shares])


def _ranked(stage: Stage, scale: _LinearScorer, shares: list[float]) -> _StageVote:
    ranked = [(shares[number], name) for number, name in scale.targets]
    base, other = 0.0, ""
    if scale.rest:
        rest = [(shares[number], name) for number, name in scale.rest]
        base, other = sum([share for share, _ in rest]), max(rest)[1]
        ranked.append((base, BASE))
    first = max(ranked)
    ranked.remove(first)
    second, runner_up = max(ranked) if ranked else (0.0, None)
    return _StageVote(stage, first[1], first[0], runner_up, second, other, base, shares)


def _loudness(pair: tuple[float, int]) -> tuple[float, int]:
    return -abs(pair[0]), pair[1]


class _Pattern(NamedTuple):
    text: str
    made: re.Pattern[str]
    domain: str
    weight: float


def _scales(
    keywords: Keywords, targets: Collection[str]
) -> tuple[_LinearScorer, _LinearScorer | None]:
    """The keywords and the classifier, each as the columns that it will have."""
    names = tuple(keywords.domains)
    weights: dict[str, NDArray[np.float32]] = {}
    for number, domain in enumerate(keywords.domains.values()):
        for term, weight in domain.terms.items():
            weights.setdefault(term, np.zeros(len(names), dtype=np.float32))[number] = weight
    bias = np.array([d.bias for d in keywords.domains.values()], dtype=np.float32)
    few = _scale(names, weights, bias, keywords.calibration.temperature, 0, targets)
    if not keywords.classifier:
        return few, None
    classifier = classifier_from_bytes(keywords.classifier)
    rows = dict(zip(classifier.terms, classifier.weights, strict=True))
    return few, _scale(
        classifier.domains, rows, classifier.bias, classifier.temperature, len(names), targets
    )


def _scale(
    names: tuple[str, ...],
    weights: Mapping[str, NDArray[np.float32]],
    bias: NDArray[np.float32],
    temperature: float,
    start: int,
    targets: Collection[str],
) -> _LinearScorer:
    return _LinearScorer(
        names,
        bias / temperature,
        temperature,
        start,
        {term: row / temperature for term, row in weights.items()},
        tuple((n, name) for n, name in enumerate(names) if name in targets),
        tuple((n, name) for n, name in enumerate(names) if name not in targets),
        frozenset((*names, BASE)),
    )


def _patterns(keywords: Keywords) -> list[_Pattern]:
    return [
        _Pattern(pattern, compile_safely(pattern), name, weight)
        for name, domain in keywords.domains.items()
        for pattern, weight in domain.patterns.items()
    ]


def _arranged(
    few: _LinearScorer, many: _LinearScorer | None, patterns: Sequence[_Pattern]
) -> tuple[Vocabulary, NDArray[np.float32]]:
    """All known terms, and one row of weights for each and for each pattern after them."""
    scales = [few] if many is None else [few, many]
    lexicon = Vocabulary(term for scale in scales for term in scale.weights)
    weights = np.zeros((len(lexicon.terms) + len(patterns), scales[-1].end), dtype=np.float32)
    for row, term in enumerate(lexicon.terms):
        for scale in scales:
            if term in scale.weights:
                weights[row, scale.start : scale.end] = scale.weights[term]
    for row, pattern in enumerate(patterns, len(lexicon.terms)):
        # A pattern that somebody wrote by hand speaks to both.
        for scale in scales:
            if pattern.domain in scale.names:
                column = scale.start + scale.names.index(pattern.domain)
                weights[row, column] = pattern.weight / scale.temperature
    return lexicon, weights


def _joined(scales: Sequence[_LinearScorer | None]) -> NDArray[np.float32]:
    """The biases of all columns."""
    return np.concatenate([scale.bias for scale in scales if scale is not None])


def _route(
    domain: str | None,
    stage: Stage,
    matched: tuple[tuple[str, float], ...],
    probability: float,
    margin: float,
    runner_up: str | None,
    reason: str,
    against: tuple[tuple[str, float], ...] = (),
) -> RouteDecision:
    return RouteDecision(
        domain, stage, matched, round(probability, 6), round(margin, 6), runner_up, reason, against
    )
