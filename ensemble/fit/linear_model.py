"""Linear model of domains over terms: its fit, and its pruning to few weights.

All arrays are (rows, terms) for texts, (terms, domains) for weights. A text's row holds, for each
of its terms, how rare the term is, over the root of its number of words.
"""

from __future__ import annotations

import math
import warnings
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from scipy.sparse import csr_matrix

Array = NDArray[np.float64]

#: Chosen on one half of the questions that a fit was not made with.
STRENGTH = 12.0
_SCALE = 0.25
# A fit that stops three times as early sends a tenth of what is asked elsewhere.
_ITERATIONS, _TOLERANCE = 200, 1e-3
_PULL = 0.1
# What share of the right labels' probability one must have.
_CLEAR = 0.6

#: A text as `ensemble.router.tokenize.terms` gives it.
Text = tuple[Mapping[str, None], int]


@dataclass(frozen=True)
class Vectorizer:
    """The terms that are learned: their place, and how rare each is."""

    index: Mapping[str, int]
    idf: Array

    def matrix(self, texts: Sequence[Text]) -> csr_matrix:
        """The texts as sparse rows."""
        from scipy.sparse import csr_matrix

        columns: list[int] = []
        values: list[float] = []
        ends = [0]
        for terms, words in texts:
            places = [place for term in terms if (place := self.index.get(term)) is not None]
            root = _SCALE / math.sqrt(max(words, 1))
            columns += places
            values += [self.idf[place] * root for place in places]
            ends.append(len(columns))
        shape = (len(texts), len(self.index))
        return csr_matrix((np.array(values), np.array(columns, dtype=int), ends), shape=shape)


@dataclass(frozen=True)
class Linear:
    """Weights (terms, domains) and bias (domains,): softmax(x · weights + bias)."""

    weights: Array
    bias: Array

    def scores(self, rows: csr_matrix) -> Array:
        """(rows, domains)."""
        return np.asarray(rows @ self.weights + self.bias)

    def raw(self, vectorizer: Vectorizer) -> Array:
        """The weights by which a router counts each term once, whatever its rarity."""
        return np.asarray(self.weights * (vectorizer.idf * _SCALE)[:, None])


def idf(counts: Counter[str], texts: int, terms: Sequence[str]) -> Array:
    """log((1 + texts) / (1 + texts with the term)) + 1."""
    return np.array([math.log((1 + texts) / (1 + counts[term])) + 1 for term in terms])


def linear(
    rows: Any,
    labels: Sequence[int],
    sample_weights: Array,
    domains: int,
    strength: float = STRENGTH,
) -> Linear:
    """Logistic regression over terms."""
    from sklearn.linear_model import LogisticRegression

    model = LogisticRegression(C=strength, max_iter=_ITERATIONS, tol=_TOLERANCE)
    _quietly(model.fit, rows, np.asarray(labels), sample_weight=sample_weights)
    weights, bias = _all_classes(model, domains)
    return Linear(weights - weights.mean(axis=1, keepdims=True), bias - bias.mean())


def linear_of_partial_labels(
    rows: Any,
    right: Sequence[Sequence[int]],
    sample_weights: Array,
    domains: int,
    strength: float = STRENGTH,
) -> tuple[Linear, list[int]]:
    """Logistic regression where several labels may be right, and the labels that it was made with.

    What has several is told apart by a model of all else (self-training; Jin and Ghahramani 2002
    on partial labels).
    """
    labels = [each[0] for each in right]
    single = np.array([len(each) == 1 for each in right])
    if single.any() and not single.all():
        known = [label for label, alone in zip(labels, single, strict=True) if alone]
        first = linear(rows[single], known, sample_weights[single], domains, strength)
        labels = told_apart(first.scores(rows), right)
    return linear(rows, labels, sample_weights, domains, strength), labels


def told_apart(scores: Array, right: Sequence[Sequence[int]]) -> list[int]:
    """One of the right labels of each row: the clearly likeliest, the first where none is."""
    found: list[int] = []
    for row, each in zip(softmax(scores), right, strict=True):
        best = max(each, key=row.__getitem__)
        found.append(best if row[best] > _CLEAR * row[list(each)].sum() else each[0])
    return found


def prune(
    model: Linear, rows: csr_matrix, sample_weights: Array, most: int, first: Any = None
) -> Any:
    """A mask of the `most` weights that move the scores of these texts furthest.

    Those of the mask `first` that speak for their domain come before all others.
    """
    reach = np.sqrt(np.asarray(rows.multiply(rows).T @ sample_weights).ravel() + 1e-4)
    moved = np.abs(model.weights) * reach[:, None]
    order = moved if first is None else np.where(first & (model.weights > 0), moved + 1e9, moved)
    best = np.argsort(-order.ravel(), kind="stable")[:most]
    mask = np.zeros(moved.size, dtype=bool)
    mask[best] = True
    return mask.reshape(moved.shape) & (moved > 0)


def distill(
    model: Linear, mask: Any, rows: csr_matrix, probabilities: Array, sample_weights: Array
) -> Linear:
    """The weights under the mask whose probabilities come nearest to the given ones.

    Cross-entropy, and a pull towards the weights of the whole model; by L-BFGS.
    """
    from scipy.optimize import minimize

    at = np.nonzero(mask)
    start, columns = model.weights[at], rows.T.tocsr()

    def loss(vector: Array) -> tuple[float, Array]:
        weights = np.zeros_like(model.weights)
        weights[at] = vector[: len(start)]
        logs = _log_softmax(rows @ weights + vector[len(start) :])
        error = (np.exp(logs) - probabilities) * sample_weights[:, None]
        away = vector[: len(start)] - start
        slope = np.concatenate([(columns @ error)[at] + _PULL * away, error.sum(axis=0)])
        entropy = -(sample_weights[:, None] * probabilities * logs).sum()
        return float(_PULL / 2 * away @ away + entropy), slope

    optimum = minimize(
        loss, np.concatenate([start, model.bias]), jac=True, method="L-BFGS-B",
        options={"maxiter": 60},
    )  # fmt: skip
    weights = np.zeros_like(model.weights)
    weights[at] = optimum.x[: len(start)]
    return Linear(weights, optimum.x[len(start) :])


def softmax(scores: Array) -> Array:
    """Probabilities along the last axis."""
    return np.asarray(np.exp(_log_softmax(scores)))


def temperature(scores: Array, labels: Sequence[int], targets: Sequence[int]) -> float:
    """By what to divide scores for the best likelihood of the labels (Guo et al. 2017).

    On questions that the scores were not learned from. A label is that of a target, or -1: all
    domains that are no targets are one.
    """
    rows, label = np.arange(len(labels)), np.asarray(labels)
    losses = []
    tried = np.geomspace(0.2, 5.0, 65)
    for each in tried:
        chances = softmax(scores / each)
        other = 1 - chances[:, list(targets)].sum(axis=1)
        losses.append(-np.log(np.where(label < 0, other, chances[rows, label]) + 1e-12).mean())
    return float(round(tried[int(np.argmin(losses))], 3))


def _log_softmax(scores: Array) -> Array:
    moved = scores - scores.max(axis=-1, keepdims=True)
    return np.asarray(moved - np.log(np.exp(moved).sum(axis=-1, keepdims=True)))


def _all_classes(model: Any, domains: int) -> tuple[Array, Array]:
    """Coefficients (features, domains); domains without a text get a very low bias."""
    coefficients = np.zeros((model.coef_.shape[1], domains))
    bias = np.full(domains, -10.0)
    if len(model.classes_) == 2:  # one row of coefficients stands for both classes
        coefficients[:, model.classes_] = np.stack([-model.coef_[0], model.coef_[0]], axis=1) / 2
        bias[model.classes_] = np.array([-model.intercept_[0], model.intercept_[0]]) / 2
    else:
        coefficients[:, model.classes_] = model.coef_.T
        bias[model.classes_] = model.intercept_
    return coefficients, bias


def _quietly(function: Any, *arguments: Any, **named: Any) -> None:
    """Without the warning that the iterations were as many as we allow."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        function(*arguments, **named)
