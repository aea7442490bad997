"""Mask that sends each token of one pass through its own LoRA adapter.

The A matrices of a layer stand one below the other, (R, in), the B matrices side by side, kept
transposed, (R, out), where R is the sum of the ranks. A token's row of the mask, (R,), holds its
adapter's scale at that adapter's ranks and 0 elsewhere:

    y = W x + B (mask ∘ (A x))

That is exactly what each adapter alone would give, and it takes the same operations whatever the
number of adapters; their ranks add up in the two small products.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import torch

from domainlift.errors import BenchError

#: For tokens that go through the base model alone.
BASE = -1


@dataclass(frozen=True)
class RankLayout:
    """Which ranks of one layer belong to which adapter: (rank, scale) by adapter's index."""

    parts: tuple[tuple[int, float], ...]

    def ranks(self, adapter: int) -> slice:
        """Where an adapter's ranks stand; empty where it leaves the layer alone."""
        starts = [0, *accumulate(rank for rank, _ in self.parts)]
        return slice(starts[adapter], starts[adapter + 1])

    def table(self) -> list[list[float]]:
        """A row of the mask for each adapter, and one of zeros for the base model."""
        total = sum(rank for rank, _ in self.parts)
        rows = []
        for adapter, (rank, scale) in enumerate(self.parts):
            start = self.ranks(adapter).start
            rows.append([0.0] * start + [scale] * rank + [0.0] * (total - start - rank))
        return [*rows, [0.0] * total]


@dataclass(frozen=True)
class StackedLayer:
    """A linear layer with the matrices of all adapters: a (R, in), b (R, out)."""

    module: Any
    layout: RankLayout
    a: torch.Tensor
    b: torch.Tensor


class AdapterMask:
    """The adapter of each token, for all layers of a model."""

    def __init__(self) -> None:
        self._index: torch.Tensor | None = None
        self._masks: dict[tuple[RankLayout, torch.dtype], torch.Tensor] = {}

    @contextmanager
    def set(self, index: torch.Tensor) -> Iterator[None]:
        """Hold for the block; `index` is (batch,) or (batch, tokens), BASE for no adapter."""
        before = self._index, self._masks
        # A row of the batch is spread over its tokens.
        self._index, self._masks = index.unsqueeze(-1) if index.ndim == 1 else index, {}
        try:
            yield
        finally:
            self._index, self._masks = before

    def mask(self, layout: RankLayout, dtype: torch.dtype) -> torch.Tensor:
        """The mask (batch, tokens or 1, R), made once for all layers of a layout."""
        if self._index is None:
            raise BenchError(
                "no adapter is chosen for these tokens",
                "hold `set(…)` around the forward pass",
            )
        found = self._masks.get((layout, dtype))
        if found is None:
            table = torch.tensor(layout.table(), dtype=dtype, device=self._index.device)
            # The base's row is the last, which is what -1 picks.
            found = self._masks[layout, dtype] = table[self._index]
        return found
