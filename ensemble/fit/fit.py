"""Fit the router to labelled questions.

Rows of labelled questions, hand-written glossaries and, where wanted, passages of the domains go
in; a linear model over words and phrases is fitted, cut down to the keywords that a person can
read, and both are calibrated on validation questions whose labels the fit has not seen (in folds;
the weights that are kept come from all rows).
"""

from __future__ import annotations

import datetime
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from domainlift.errors import Misuse
from domainlift.sampling import hash_order
from ensemble.fit.linear_model import Linear, distill, linear, prune, softmax
from ensemble.fit.linear_model import temperature as best_temperature
from ensemble.fit.thresholds import tune_thresholds
from ensemble.fit.training_data import (
    GLOSSARY,
    PASSAGE,
    Embed,
    Labelled,
    RouterData,
    RouterFeatures,
    router_data_digest,
    subsample,
)
from ensemble.router.classifier import classifier_bytes
from ensemble.router.keywords import Calibration, DomainTerms, Keywords

if TYPE_CHECKING:
    from ensemble.fit.linear_model import Array

__all__ = ["Embed", "FitSettings", "Labelled", "RouterData", "fit_router"]

Notify = Callable[[str], None]

FOLDS = 4
#: Fewer validation questions than these calibrate nothing.
LEAST = 40


@dataclass(frozen=True)
class FitSettings:
    """How much is kept, and whose routing the thresholds are chosen for (None: all domains).

    `keywords` is the largest number of weights in the keyword file, `weights` that of the small
    classifier; 0 makes none.
    """

    keywords: int = 6_000
    weights: int = 90_000
    targets: Sequence[str] | None = None


def fit_router(
    material: RouterData, settings: FitSettings = FitSettings(), notify: Notify | None = None
) -> Keywords:
    """Learn weights, calibration and thresholds; the same material gives the same bytes.

    Questions of the test split are refused: what is measured on them would mean nothing.
    """
    say = notify if notify is not None else lambda _: None
    _check(material.rows)
    material = replace(material, rows=subsample(material.rows))
    names = tuple(sorted({row.domain for row in material.rows} | set(material.glossary)))
    say("counting words")
    stock = RouterFeatures.of(material, names)
    held_out = _held_out(stock, settings, say)
    say("fitting on everything")
    both = _learned(stock, settings, range(len(material.rows)))
    return _assembled(stock, settings, both, held_out)


def _check(rows: Sequence[Labelled]) -> None:
    if len({row.domain for row in rows}) < 2:
        raise Misuse(
            "a router needs labelled questions of at least two domains",
            "give a suite that has them: `bench route fit --suite demo`",
        )
    tested = next((row.task for row in rows if row.split == "test"), None)
    if tested is not None:
        raise Misuse(f"`{tested}` gave a question of its test split, which is never fitted to")


# --- learning


@dataclass(frozen=True)
class _QuestionModels:
    """The model of the classifier, and that of the keywords, which is its distillate."""

    whole: Linear
    few: Linear


def _learned(
    stock: RouterFeatures, settings: FitSettings, chosen: Sequence[int]
) -> _QuestionModels:
    import numpy as np
    from scipy.sparse import vstack

    space, size = stock.space, len(stock.names)
    texts = [stock.whole[n] for n in chosen] + [stock.bare[n] for n in chosen]
    labels = [stock.labels[n] for n in chosen] * 2 + stock.extra_labels
    own = [stock.shares[n] for n in chosen] * 2
    shares = np.array(own + [GLOSSARY] * len(stock.extra))
    rows = space.matrix([*texts, *stock.extra])
    model = linear(space, rows, labels, shares, size)
    every = vstack([rows, space.matrix(stock.loose)]).tocsr() if stock.loose else rows
    weighed = np.concatenate([shares, np.full(len(stock.loose), PASSAGE)])
    wanted = softmax(model.scores(every))
    wanted[: len(labels)] /= 2
    wanted[np.arange(len(labels)), labels] += 0.5
    few = distill(model, prune(model, every, weighed, settings.keywords), every, wanted, weighed)
    kept = prune(model, every, weighed, settings.weights)
    return _QuestionModels(replace(model, weights=np.where(kept, model.weights, 0.0)), few)


@dataclass(frozen=True)
class _HeldOut:
    """Scores of validation questions by models that were fitted without them, and their labels.

    Their labels are unseen. Their texts had a part in which terms there are, and how rare each is.
    """

    whole: Array
    few: Array
    labels: list[int]


def _held_out(stock: RouterFeatures, settings: FitSettings, say: Notify) -> _HeldOut | None:
    import numpy as np

    rows = stock.material.rows
    folds = _folds(rows)
    if sum(map(len, folds)) < LEAST:
        return None
    few: list[Array] = []
    whole: list[Array] = []
    labels: list[int] = []
    for number, fold in enumerate(folds, 1):
        say(f"fold {number} of {FOLDS}")
        away = set(fold)
        both = _learned(stock, settings, [n for n in range(len(rows)) if n not in away])
        for side in (stock.whole, stock.bare):
            matrix = stock.space.matrix([side[n] for n in fold])
            whole.append(both.whole.scores(matrix))
            few.append(both.few.scores(matrix))
            labels += [stock.labels[n] for n in fold]
    return _HeldOut(np.vstack(whole), np.vstack(few), labels)


def _folds(rows: Sequence[Labelled]) -> list[list[int]]:
    """Validation rows in folds by their content; copies of a question share a fold."""
    folds: list[list[int]] = [[] for _ in range(FOLDS)]
    for number, row in enumerate(rows):
        if row.split == "validation":
            folds[hash_order(row.text)[0] % FOLDS].append(number)
    return folds


# --- thresholds, and the files


def _assembled(
    stock: RouterFeatures, settings: FitSettings, both: _QuestionModels, held_out: _HeldOut | None
) -> Keywords:
    calibration, whole_temperature, report = _calibrated(stock, settings, held_out)
    domains = _domains(stock, both.few)
    content = _classifier(stock, both.whole, whole_temperature) if settings.weights else b""
    rows = stock.material.rows
    fitted = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "questions": len(rows),
        "tasks": sorted({row.task for row in rows}),
        "glossary": len(stock.extra),
        "passages": len(stock.material.passages),
        "material": router_data_digest(stock.material),
        **stock.material.note,
        **report,
    }
    return Keywords(domains, calibration, fitted, content)


def _domains(stock: RouterFeatures, few: Linear) -> dict[str, DomainTerms]:
    """Weights of two decimals; what rounds to nothing is left out."""
    raw = few.raw(stock.space).round(2)
    inventory = list(stock.space.index)
    return {
        name: DomainTerms(
            bias=round(float(few.bias[number]), 3),
            terms={inventory[n]: float(raw[n, number]) for n in raw[:, number].nonzero()[0]},
        )
        for number, name in enumerate(stock.names)
    }


def _classifier(stock: RouterFeatures, whole: Linear, temperature: float) -> bytes:
    raw = whole.raw(stock.space)
    kept = (raw != 0).any(axis=1).nonzero()[0]
    inventory = list(stock.space.index)
    return classifier_bytes(
        stock.names, [inventory[n] for n in kept], raw[kept], whole.bias, temperature
    )


def _calibrated(
    stock: RouterFeatures, settings: FitSettings, held_out: _HeldOut | None
) -> tuple[Calibration, float, dict[str, Any]]:
    if held_out is None:
        return Calibration(), 1.0, {}
    few, whole = (best_temperature(s, held_out.labels) for s in (held_out.few, held_out.whole))
    targets = [n for n, name in enumerate(stock.names) if _is_target(name, settings.targets)]
    labels = [label if label in targets else -1 for label in held_out.labels]
    sure, threshold, right = tune_thresholds(
        softmax(held_out.few / few), softmax(held_out.whole / whole), labels, targets,
        ladder=settings.weights > 0,
    )  # fmt: skip
    report = {"validation": len(labels), "accuracy": round(right, 4)}
    return Calibration(few, threshold, sure), whole, report


def _is_target(name: str, targets: Sequence[str] | None) -> bool:
    return targets is None or name in targets
