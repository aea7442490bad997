"""Rows of the scheduler over llama.cpp: a context for each adapter, a sequence for each row.

llama.cpp applies an adapter to all that a context computes, and to change it makes llama.cpp plan
its computation anew, so each adapter has a context of its own over the same weights.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np

from engines.gguf.model import GgufModel
from engines.scheduler import CacheLost, Feed, Name

#: Rows at once, tokens of prompts in one step, and positions of a new context.
_ROWS, _CHUNK, _POSITIONS = 16, 128, 2048


class GgufRows:
    """Computes rows with the weights of `model`; `adapters` are llama.cpp's handles by name."""

    def __init__(self, model: GgufModel, adapters: Mapping[Name, Any], chunk: int = _CHUNK) -> None:
        self._model, self._adapters = model, adapters
        self.rows, self.chunk, self.shares = _ROWS, chunk, True
        # All sequences of a context are looked through for each token, so few are kept.
        self.spare = _POSITIONS
        self._contexts: dict[Name, GgufModel] = {}
        # Of each slot the adapter and its positions.
        self._held: dict[int, tuple[Name, int]] = {}

    @property
    def tokens(self) -> int:
        """Token positions computed so far."""
        return sum(context.tokens for context in self._contexts.values())

    def groups(self, adapters: Iterable[Name]) -> list[list[Name]]:
        """Each adapter by itself."""
        return [[name] for name in adapters]

    def keep(self, slot: int, source: int, adapter: Name, length: int) -> None:
        """Let a slot begin with so many tokens of another one."""
        before, _ = self._held.get(slot, (adapter, 0))
        if before != adapter:
            self._context(before).keep(slot, slot, 0)
        self._context(adapter).keep(slot, source, length)
        self._held[slot] = adapter, length

    def feed(self, feeds: Sequence[Feed]) -> np.ndarray:
        """Compute these, of one adapter; logits after the last token of each."""
        adapter = feeds[0].adapter
        context = self._context(adapter)
        for feed in feeds:
            self._held[feed.slot] = adapter, feed.start + len(feed.tokens)
        if sum(length for name, length in self._held.values() if name == adapter) > (
            context.positions
        ):
            running = sum(feed.start + len(feed.tokens) for feed in feeds)
            self._held.clear()
            for each in self._contexts.values():
                each.forget_prefix()
            context.reserve(max(context.positions, 2 * running))
            raise CacheLost
        rows = [(feed.slot, feed.tokens, feed.start) for feed in feeds]
        return np.stack(context.append(rows))

    def close(self) -> None:
        """Free the contexts."""
        self._model.tokens += self.tokens
        for context in self._contexts.values():
            context.close()
        self._contexts, self._held = {}, {}

    def _context(self, adapter: Name) -> GgufModel:
        found = self._contexts.get(adapter)
        if found is None:
            found = self._model.sibling(self.rows, self._adapters[adapter])
            found.reserve(_POSITIONS)
            self._contexts[adapter] = found
        return found
