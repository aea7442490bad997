"""Fit of a router to labelled questions.

Rows of labelled questions, hand-written glossaries and passages of the domains' documents go in; a
linear model over words and phrases is fitted, cut down to the keywords that a person can read, and
both are calibrated on questions from sources that a fit was made without, so that they mean what
they say on questions from elsewhere, and on a quarter of all. Where all questions are of one
source, validation questions are left out in folds. The weights that are kept come from everything.
"""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np

from domainlift.errors import Misuse
from domainlift.sampling import hash_order
from ensemble.fit.linear_model import (
    Array,
    Linear,
    distill,
    linear_of_partial_labels,
    prune,
    softmax,
    told_apart,
)
from ensemble.fit.linear_model import temperature as best_temperature
from ensemble.fit.thresholds import tune_thresholds
from ensemble.fit.training_data import (
    GENERAL,
    Labelled,
    RouterData,
    RouterFeatures,
    router_data_digest,
    subsample,
)
from ensemble.router.classifier import classifier_bytes
from ensemble.router.keywords import DomainTerms, Keywords, RouterCalibration
from ensemble.router.tokenize import term_of

__all__ = ["FitSettings", "Labelled", "RouterData", "fit_router"]

Notify = Callable[[str], None]

FOLDS = 4
#: Fewer validation questions than these calibrate nothing.
LEAST = 40
# So many questions of a source are tried at most, so that none decides alone.
_ASKED = 1_000


@dataclass(frozen=True)
class FitSettings:
    """Numbers of weights kept, and the targets of the thresholds (None: all domains).

    `keywords` is the largest number of weights in the keyword file, `weights` that of the small
    classifier; 0 makes none.
    """

    keywords: int = 7_000
    weights: int = 90_000
    targets: Sequence[str] | None = None


def fit_router(
    data: RouterData, settings: FitSettings = FitSettings(), notify: Notify | None = None
) -> Keywords:
    """Learn weights, calibration and thresholds; the same material gives the same bytes.

    Questions of the test split are refused: what is measured on them would mean nothing.
    """
    say = notify if notify is not None else lambda _: None
    _check(data)
    data = replace(data, rows=subsample(data.rows))
    say("counting words")
    features = RouterFeatures.of(data)
    held_out = _held_out(features, settings, say)
    say("fitting on everything")
    models = _learned(features, settings, range(len(data.rows)))
    return _assembled(features, settings, models, held_out)


def _check(data: RouterData) -> None:
    held = {row.domain for row in data.rows} | {domain for _, domain in data.passages}
    if len(held) < 2 or not data.rows:
        raise Misuse(
            "a router needs labelled questions, and questions or documents of at least two domains",
            "give a suite that has them: `bench route fit --suite demo`",
        )
    tested = next((row.task for row in data.rows if row.split == "test"), None)
    if tested is not None:
        raise Misuse(f"`{tested}` gave a question of its test split, which is never fitted to")


# --- learning


@dataclass(frozen=True)
class _QuestionModels:
    """The model of the classifier, and that of the keywords, which is its distillate."""

    whole: Linear
    few: Linear


def _learned(
    features: RouterFeatures, settings: FitSettings, chosen: Sequence[int]
) -> _QuestionModels:
    vectorizer, size = features.vectorizer, len(features.names)
    texts = [features.whole[n] for n in chosen] + [features.bare[n] for n in chosen]
    right = [features.right[n] for n in chosen] * 2 + [[n] for n in features.extra_labels]
    own = [features.sample_weights[n] for n in chosen] * 2
    weights = np.array(own + features.extra_weights)
    rows = vectorizer.matrix([*texts, *features.extra])
    model, labels = linear_of_partial_labels(rows, right, weights, size)
    probabilities = softmax(model.scores(rows)) / 2
    probabilities[np.arange(len(labels)), labels] += 0.5
    few = distill(
        model, prune(model, rows, weights, settings.keywords), rows, probabilities, weights
    )
    kept = prune(model, rows, weights, settings.weights)
    return _QuestionModels(replace(model, weights=np.where(kept, model.weights, 0.0)), few)


def _written(features: RouterFeatures) -> Any:
    """A mask (terms, domains) of what somebody wrote down for a domain."""
    index = features.vectorizer.index
    mask = np.zeros((len(index), len(features.names)), dtype=bool)
    for name, words in features.data.glossary.items():
        for word in words:
            with suppress(ValueError, KeyError):
                mask[index[term_of(word)], features.names.index(name)] = True
    return mask


@dataclass(frozen=True)
class _HeldOut:
    """Scores of questions by models that were fitted without them, and their labels.

    Their labels are unseen. Their texts had a part in which terms there are, and how rare each is.
    """

    whole: Array
    few: Array
    labels: list[int]


def _held_out(features: RouterFeatures, settings: FitSettings, say: Notify) -> _HeldOut | None:
    rows = features.data.rows
    kinds = _sources(features)
    folds = [*kinds, _quarter(rows)] if kinds else _folds(rows)
    if sum(len(fold.asked) for fold in folds) < LEAST:
        return None
    few: list[Array] = []
    whole: list[Array] = []
    labels: list[int] = []
    for number, fold in enumerate(folds, 1):
        say(f"fit {number} of {len(folds)} without the questions that it is tried on")
        away = set(fold.away)
        models = _learned(features, settings, [n for n in range(len(rows)) if n not in away])
        asked = sorted(fold.asked, key=lambda n: hash_order(rows[n].text))[:_ASKED]
        for side in (features.whole, features.bare):
            matrix = features.vectorizer.matrix([side[n] for n in asked])
            whole.append(models.whole.scores(matrix))
            few.append(models.few.scores(matrix))
            labels += told_apart(whole[-1], [features.right[n] for n in asked])
    return _HeldOut(np.vstack(whole), np.vstack(few), labels)


class _Fold(NamedTuple):
    """The rows that a fit is made without, and those of them that it is tried on."""

    away: list[int]
    asked: list[int]


def _sources(features: RouterFeatures) -> list[_Fold]:
    """Folds by source, tried on domains that something else tells of; none for one source alone.

    A source of one domain would only show how its label overlaps with those of others.
    """
    read = set(features.extra_labels[-features.sentences :] if features.sentences else ())
    held: dict[str, list[int]] = {}
    for number, source in enumerate(features.sources):
        held.setdefault(source, []).append(number)
    folds = []
    for source, away in held.items():
        others = Counter(
            features.right[n][0] for other, rows in held.items() if other != source for n in rows
        )
        told = read | {label for label, count in others.items() if count >= LEAST}
        asked = [n for n in away if features.right[n][0] in told]
        if len(asked) >= LEAST and len({features.right[n][0] for n in asked}) > 1:
            folds.append(_Fold(away, asked))
    return folds if len(held) > 1 else []


def _quarter(rows: Sequence[Labelled]) -> _Fold:
    """Questions of every source: most of what is asked later is of a kind that was learned."""
    left = [n for n, row in enumerate(rows) if hash_order(row.text)[0] % FOLDS == 0]
    return _Fold(left, left)


def _folds(rows: Sequence[Labelled]) -> list[_Fold]:
    """Validation rows in folds by their content; copies of a question share a fold."""
    folds: list[list[int]] = [[] for _ in range(FOLDS)]
    for number, row in enumerate(rows):
        if row.split == "validation":
            folds[hash_order(row.text)[0] % FOLDS].append(number)
    return [_Fold(fold, fold) for fold in folds]


# --- thresholds, and the files


def _assembled(
    features: RouterFeatures,
    settings: FitSettings,
    models: _QuestionModels,
    held_out: _HeldOut | None,
) -> Keywords:
    calibration, thresholds, whole_temperature, report = _calibrated(features, settings, held_out)
    domains = _domains(features, models.few, thresholds)
    content = _classifier(features, models.whole, whole_temperature) if settings.weights else b""
    rows = features.data.rows
    fitted = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "questions": len(rows),
        "tasks": sorted({row.task for row in rows}),
        "glossary": features.written,
        "passages": len(features.data.passages),
        "material": router_data_digest(features.data),
        **features.data.note,
        **report,
    }
    return Keywords(domains, calibration, fitted, content)


def _domains(
    features: RouterFeatures, few: Linear, thresholds: Mapping[int, float]
) -> dict[str, DomainTerms]:
    """Weights of two decimals; what rounds to nothing is left out."""
    raw = few.raw(features.vectorizer).round(2)
    inventory = list(features.vectorizer.index)
    return {
        name: DomainTerms(
            bias=round(float(few.bias[number]), 3),
            terms={inventory[n]: float(raw[n, number]) for n in raw[:, number].nonzero()[0]},
            threshold=thresholds.get(number),
        )
        for number, name in enumerate(features.names)
    }


def _classifier(features: RouterFeatures, whole: Linear, temperature: float) -> bytes:
    raw = whole.raw(features.vectorizer)
    kept = (raw != 0).any(axis=1).nonzero()[0]
    inventory = list(features.vectorizer.index)
    return classifier_bytes(
        features.names, [inventory[n] for n in kept], raw[kept], whole.bias, temperature
    )


def _calibrated(
    features: RouterFeatures, settings: FitSettings, held_out: _HeldOut | None
) -> tuple[RouterCalibration, dict[int, float], float, dict[str, Any]]:
    if held_out is None:
        return RouterCalibration(), {}, 1.0, {}
    targets = [n for n, name in enumerate(features.names) if _is_target(name, settings.targets)]
    labels = [label if label in targets else -1 for label in held_out.labels]
    few, whole = (best_temperature(s, labels, targets) for s in (held_out.few, held_out.whole))
    sure, thresholds, right = tune_thresholds(
        softmax(held_out.few / few), softmax(held_out.whole / whole), labels, targets,
        [n for n in targets if features.names[n] != GENERAL], ladder=settings.weights > 0,
    )  # fmt: skip
    report = {"validation": len(labels), "accuracy": round(right, 4)}
    return RouterCalibration(few, sure=sure), thresholds, whole, report


def _is_target(name: str, targets: Sequence[str] | None) -> bool:
    return targets is None or name in targets
