"""Learning-rate schedule and batch order: pure functions of the step, so that a resume agrees."""

from __future__ import annotations

import math
import random
from collections.abc import Sequence
from functools import lru_cache

#: The share of the peak rate at which a training ends.
FLOOR = 0.1


def rate_at(step: int, steps: int, warm_up: float, peak: float) -> float:
    """The learning rate of step 0, 1, …: a linear rise, then a cosine down to a tenth."""
    rising = round(steps * warm_up)
    if step < rising:
        return peak * (step + 1) / rising
    share = (step - rising) / max(1, steps - rising)
    return peak * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * min(1.0, share))) / 2)


def batch_indices(step: int, rows: int, batch: int, seed: int | None) -> list[int]:
    """The rows of a step: each epoch is a permutation of its own, cut into batches.

    A seed of None keeps the rows in their order. The last batch of an epoch is smaller where the
    rows do not divide; no row is left out and none comes twice.
    """
    per_epoch = -(-rows // batch)
    epoch, place = divmod(step, per_epoch)
    order = range(rows) if seed is None else permutation(rows, seed, epoch)
    return list(order[place * batch : (place + 1) * batch])


@lru_cache(maxsize=2)
def permutation(rows: int, seed: int, epoch: int) -> Sequence[int]:
    """A permutation of the rows that depends on seed and epoch alone."""
    order = list(range(rows))
    random.Random(f"{seed} {epoch}").shuffle(order)
    return tuple(order)
