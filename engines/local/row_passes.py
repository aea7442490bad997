"""Rows of the scheduler over transformers: all of a step in one pass, whatever their adapters."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import Any

import numpy as np
import torch

from engines.local.adapter_manager import AdapterManager
from engines.local.answers import no_memory
from engines.local.forward import Forward
from engines.local.slot_cache import NoRoom, SlotCache
from engines.scheduler import CacheLost, Feed, Name

#: Tokens of prompts in one step, without and with a graphics card: others wait so long.
_CHUNK, _CUDA_CHUNK, _LEAST_CHUNK = 128, 1024, 32
#: Bytes of keys and values on a processor; a graphics card gives half of what is free.
_CACHE = 2**31


class LocalRows:
    """Computes rows with the model of `forward`; `lock` is held for each pass.

    A step takes at least as long as the weights take to be read, so its rows share one pass, and
    parts of prompts another one. Where an architecture cannot share prefixes, each row has a cache
    and passes of its own.
    """

    def __init__(
        self,
        forward: Forward,
        adapters: AdapterManager,
        lock: AbstractContextManager[Any],
        rows: int,
        chunk: int | None = None,
    ) -> None:
        self._forward, self._adapters, self._lock = forward, adapters, lock
        self.rows, self.spare = rows, sys.maxsize
        self.shares = forward.shares
        cuda = forward.device.type == "cuda"
        # A recurrent state takes a prompt in one piece.
        usual = _CUDA_CHUNK if cuda else _CHUNK
        self.chunk = (usual if chunk is None else chunk) if self.shares else sys.maxsize
        self._most = torch.cuda.mem_get_info(forward.device)[0] // 2 if cuda else _CACHE
        self._cache = SlotCache(forward.layers, self._most)
        self._own: dict[int, Any] = {}

    def groups(self, adapters: Iterable[Name]) -> list[list[Name]]:
        """Divide adapters into those that may be fed together."""
        with self._lock:
            return self._adapters.groups(adapters)

    def keep(self, slot: int, source: int, adapter: Name, length: int) -> None:
        """Let a slot begin with so many tokens of another one."""
        if length and slot != source:
            try:
                with torch.inference_mode():
                    self._cache.copy(slot, source, length)
            except self._forward.out_of_memory as error:
                self._shrink([Feed(slot, adapter, (), length)], error)

    def feed(self, feeds: Sequence[Feed]) -> np.ndarray:
        """Compute these; logits after the last token of each, [feeds, vocabulary]."""
        found: dict[int, np.ndarray] = {}
        try:
            with self._lock, torch.inference_mode():
                for part in self._passes(feeds):
                    logits = self._together(part) if self.shares else self._alone(part[0])
                    found |= zip((feed.slot for feed in part), logits, strict=True)
        except self._forward.out_of_memory as error:
            self._shrink(feeds, error)
        return np.stack([found[feed.slot] for feed in feeds])

    def _passes(self, feeds: Sequence[Feed]) -> Iterator[list[Feed]]:
        """Single tokens together, and parts of prompts; each by itself where rows cannot share."""
        if not self.shares:
            yield from ([feed] for feed in feeds)
            return
        ordered = sorted(feeds, key=lambda feed: feed.slot)
        for single in (True, False):
            part = [feed for feed in ordered if (len(feed.tokens) == 1) is single]
            if part:
                yield part

    def _together(self, feeds: list[Feed]) -> np.ndarray:
        """One pass over rows of different lengths: their new tokens end together."""
        width = max(len(feed.tokens) for feed in feeds)
        ids = torch.zeros(len(feeds), width, dtype=torch.long)
        positions = torch.full((len(feeds), width), -1)
        for row, feed in enumerate(feeds):
            first, count = feed.start, len(feed.tokens)
            ids[row, width - count :] = torch.tensor(feed.tokens)
            positions[row, width - count :] = torch.arange(first, first + count)
        length = int(positions.max()) + 1
        device = self._forward.device
        at = positions.to(device)
        self._cache.aim([feed.slot for feed in feeds], at, length)
        # Padding sees the first position, since what sees nothing is no number.
        seen = at.clamp(min=0)
        mask = torch.arange(length, device=device) <= seen[:, :, None]
        with self._adapters.per_row([feed.adapter for feed in feeds], width):
            return self._last(
                self._forward.run(
                    ids.to(device), self._cache, keep=1, mask=mask[:, None], positions=seen
                )
            )

    def _alone(self, feed: Feed) -> np.ndarray:
        ids = torch.tensor([feed.tokens], device=self._forward.device)
        with self._adapters.per_row([feed.adapter], ids.shape[1]):
            if feed.start == 0:
                self._own[feed.slot] = self._forward.new_cache()
            return self._last(self._forward.run(ids, self._own[feed.slot], keep=1))

    def _last(self, logits: torch.Tensor) -> np.ndarray:
        found: np.ndarray = logits[:, -1].float().cpu().numpy()
        return found

    def _shrink(self, feeds: Sequence[Feed], error: BaseException) -> None:
        """Have fewer rows or smaller chunks, or give up where one row alone is too large."""
        self._cache, self._own = SlotCache(self._forward.layers, self._most), {}
        if isinstance(error, NoRoom):
            rows = min(self.rows, error.rows)
        else:
            rows = min(self.rows, max(2, len(feeds))) // 2
            if self.shares and self.chunk > _LEAST_CHUNK:
                rows, self.chunk = max(1, rows), self.chunk // 2
        if rows < 1:
            raise no_memory(feeds[0].start + len(feeds[0].tokens)) from error
        self.rows = rows
        raise CacheLost from error
