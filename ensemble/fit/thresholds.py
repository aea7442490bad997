"""Tuning of the routing thresholds: keywords alone decide above one, no target below its own."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ensemble.fit.linear_model import Array

_SURE = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)
#: No target gets what is less probable; three in five also on traps, where one half lets more in.
_THRESHOLDS = tuple(step / 100 for step in range(60, 91, 5))
#: The largest share of what belongs elsewhere that may be sent to a target.
_FALSE_SENDS = 0.01
#: How much accuracy may be given for a larger part decided by keywords.
_WORTH = 0.002


def tune_thresholds(
    few: Array,
    whole: Array,
    labels: Sequence[int],
    targets: Sequence[int],
    guarded: Sequence[int],
    *,
    ladder: bool,
) -> tuple[float, dict[int, float], float]:
    """`sure`, the threshold of each target, and the share of questions that are then well routed.

    `few` and `whole` are the probabilities (questions, domains) by keywords and by classifier, on
    questions that neither was fitted to; a label is that of a target, or -1. The threshold is the
    lowest at which a `guarded` target gets no more than 1 % of what belongs elsewhere, the highest
    where none is low enough. `sure` is the lowest that costs at most 0.2 points of accuracy.
    """
    truth = np.asarray(labels)
    results = {}
    for sure in _SURE if ladder else (0.0,):
        best, chances = _joined(_verdicts(few, targets), _verdicts(whole, targets), sure)
        own = {
            each: _lowest(chances[best == each], truth[best == each] != each, (truth != each).sum())
            for each in guarded
        }
        least = np.array([own.get(int(each), _THRESHOLDS[0]) for each in best])
        sent = np.where(chances >= least, best, -1)
        results[sure] = own, float((sent == truth).mean())
    top = max(right for _, right in results.values())
    sure = min(each for each, (_, right) in results.items() if right >= top - _WORTH)
    return sure, *results[sure]


def _lowest(chances: Any, wrong: Any, elsewhere: int) -> float:
    """The lowest threshold above which few enough of these are wrong."""
    fitting = (
        each for each in _THRESHOLDS
        if (wrong & (chances >= each)).sum() <= _FALSE_SENDS * elsewhere
    )  # fmt: skip
    return next(fitting, _THRESHOLDS[-1])


def _verdicts(probabilities: Array, targets: Sequence[int]) -> tuple[Any, Any]:
    """The best target or -1 for the base model, and its probability."""
    aimed = probabilities[:, list(targets)]
    other = 1 - aimed.sum(axis=1)
    top = aimed.max(axis=1)
    best = np.where(top >= other, np.asarray(targets)[aimed.argmax(axis=1)], -1)
    return best, np.maximum(top, other)


def _joined(few: tuple[Any, Any], whole: tuple[Any, Any], sure: float) -> tuple[Any, Any]:
    """The surer of the two votes, unless the keywords are sure themselves."""
    other = (few[1] < sure) & (whole[1] > few[1])
    return np.where(other, whole[0], few[0]), np.where(other, whole[1], few[1])
