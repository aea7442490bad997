"""Tuning of the two routing thresholds: keywords alone decide above one, none below."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ensemble.fit.linear_model import Array

_SURE = (0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 1.0)
_THRESHOLDS = tuple(step / 100 for step in range(20, 91, 5))
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
) -> tuple[float, float, float]:
    """`sure`, `threshold`, and the share of questions that are then well routed.

    `few` and `whole` are the probabilities (questions, domains) by keywords and by classifier, on
    questions that neither was fitted to; a label is that of a target, or -1. The threshold is the
    lowest at which no `guarded` target gets more than 1 % of what belongs elsewhere, the highest
    where none is low enough. `sure` is the lowest that costs at most 0.2 points of accuracy.
    """
    import numpy as np

    results = {}
    for sure in _SURE if ladder else (0.0,):
        best, chances = _joined(_verdicts(few, targets), _verdicts(whole, targets), sure)
        truth = np.asarray(labels)
        sent = {each: np.where(chances >= each, best, -1) for each in _THRESHOLDS}
        strict = (each for each in _THRESHOLDS if _strict(sent[each], truth, guarded))
        chosen = next(strict, _THRESHOLDS[-1])
        results[sure] = chosen, float((sent[chosen] == truth).mean())
    top = max(right for _, right in results.values())
    sure = min(each for each, (_, right) in results.items() if right >= top - _WORTH)
    return sure, *results[sure]


def _verdicts(probabilities: Array, targets: Sequence[int]) -> tuple[Any, Any]:
    """The best target or -1 for the base model, and its probability."""
    import numpy as np

    aimed = probabilities[:, list(targets)]
    other = 1 - aimed.sum(axis=1)
    top = aimed.max(axis=1)
    best = np.where(top >= other, np.asarray(targets)[aimed.argmax(axis=1)], -1)
    return best, np.maximum(top, other)


def _joined(few: tuple[Any, Any], whole: tuple[Any, Any], sure: float) -> tuple[Any, Any]:
    """The surer of the two votes, unless the keywords are sure themselves."""
    import numpy as np

    other = (few[1] < sure) & (whole[1] > few[1])
    return np.where(other, whole[0], few[0]), np.where(other, whole[1], few[1])


def _strict(sent: Any, truth: Any, targets: Sequence[int]) -> bool:
    elsewhere = ((each, truth != each) for each in targets)
    return all((sent[away] == each).sum() <= _FALSE_SENDS * away.sum() for each, away in elsewhere)
