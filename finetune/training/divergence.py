"""Divergence check: a loss or gradient that is not finite or has exploded."""

from __future__ import annotations

import math
from collections.abc import Sequence

from domainlift.errors import BenchError

#: The loss has exploded when it stays above twice that of the first steps for so many steps. Below
#: the first bound it may rise freely; beyond twice the second it was no model's from the start.
_STEPS, _TIMES, _LEAST, _MOST = 5, 2.0, 1.0, 25.0


class Diverged(BenchError):
    """The loss is not a number any more, or has exploded; the last checkpoint stays."""


def check_divergence(losses: Sequence[float], norm: float, rows: Sequence[str]) -> None:
    """Raise Diverged where loss or gradient norm is not finite, or the loss has exploded.

    `losses` are those of all steps so far, `rows` the ids of the last step's rows.
    """
    step = len(losses)
    if not math.isfinite(losses[-1]):
        raise _diverged(f"the loss is {losses[-1]} at step {step}", rows)
    if not math.isfinite(norm):
        raise _diverged(f"the gradient is {norm} at step {step}", rows)
    first = sum(losses[:_STEPS]) / _STEPS
    if step > _STEPS and min(losses[-_STEPS:]) > _TIMES * min(max(first, _LEAST), _MOST):
        what = f"the loss has risen from {first:.3g} to {losses[-1]:.3g} at step {step}"
        raise _diverged(what, rows)


def _diverged(what: str, rows: Sequence[str]) -> Diverged:
    shown = ", ".join(f"`{row}`" for row in rows[:32])
    more = f" and {len(rows) - 32} more" if len(rows) > 32 else ""
    return Diverged(
        f"{what}; its rows: {shown}{more}",
        "halve `learning_rate`, raise `warm_up`, or look for broken text in these rows",
    )
