"""Greedy generation in batches that share the prefix of their prompts."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from domainlift.errors import BenchError
from engines.base import Answer, Request
from engines.local.answers import finished_reply
from engines.local.forward import Forward
from engines.local.prefix_tree import Batch, PromptItem, plan_batches
from engines.local.tokenization import Encoder

if TYPE_CHECKING:
    import torch

_MOST_ROWS = 32


@dataclass
class _Row:
    """One reply as it grows; `opened` is the mark with which its prompt began a thought."""

    item: PromptItem
    request: Request
    opened: str = ""
    tokens: list[int] = field(default_factory=list)


class Decoder:
    """Writes replies with the most likely token at each step, and yields each as it ends."""

    def __init__(self, forward: Forward, encoder: Encoder) -> None:
        self._forward = forward
        self._encoder = encoder

    def generate(
        self, items: Sequence[PromptItem], requests: Sequence[Request], batch_tokens: int
    ) -> Iterator[Answer]:
        """Yield one answer per item; an item's key is the index of its request."""
        shares = self._forward.shares
        stack = (
            plan_batches(items, tokens=batch_tokens, reads=_MOST_ROWS)
            if shares
            else [Batch(0, (item,)) for item in items]
        )
        stack.reverse()
        while stack:
            batch = stack.pop()
            done: set[int] = set()
            try:
                for key, answer in self._batch(batch, requests):
                    done.add(key)
                    yield answer
            except self._forward.out_of_memory as error:
                self._forward.reset()
                stack += _halves(batch, done, error)

    def _batch(self, batch: Batch, requests: Sequence[Request]) -> Iterator[tuple[int, Answer]]:
        import torch

        start = time.perf_counter()
        rows = [
            _Row(item, requests[item.key], self._encoder.opened_thought(requests[item.key]))
            for item in batch.items
        ]
        state: _State | None = None
        keep: list[int] = []
        while rows:
            # Left before each yield: the mode is the thread's, so the caller would be in it too.
            with torch.inference_mode():
                if state is None:
                    state = self._prefill(batch)
                else:
                    state.step(keep, [row.tokens[-1] for row in rows])
                _extend(rows, state.next_tokens())
            finished = [self._reply(row) for row in rows]
            for row, reply in zip(rows, finished, strict=True):
                if reply is not None:
                    seconds = (time.perf_counter() - start) / len(batch.items)
                    yield row.item.key, _answer(row, *reply, seconds)
            keep = [i for i, reply in enumerate(finished) if reply is None]
            rows = [rows[i] for i in keep]

    def _prefill(self, batch: Batch) -> _State:
        """Left-pad what follows soft prompt and prefix, so that all rows end at one position."""
        import torch

        device = self._forward.device
        tails = [item.prompt[batch.prefix :] for item in batch.items]
        width = max(map(len, tails))
        before = self._forward.soft_prompt.length + batch.prefix
        ids = torch.zeros(len(tails), width, dtype=torch.long)
        mask = torch.zeros(len(tails), before + width, dtype=torch.long)
        mask[:, :before] = 1
        for i, tail in enumerate(tails):
            ids[i, width - len(tail) :] = torch.tensor(tail)
            mask[i, before + width - len(tail) :] = 1
        positions = (mask.cumsum(-1) - 1).clamp(min=0)[:, before:]
        cache = self._forward.own_cache(batch.prefix_tokens)
        if len(tails) > 1:  # layers with a state of their own cannot, and have one row at a time
            cache.batch_repeat_interleave(len(tails))
        state = _State(self._forward, cache, mask.to(device), positions[:, -1:].to(device))
        state.feed(ids.to(device), positions.to(device))
        return state

    def _reply(self, row: _Row) -> tuple[str, bool] | None:
        """A finished reply, without its stop string or end token, and whether it was cut off."""
        ended = row.tokens[-1] in self._forward.end_tokens
        return finished_reply(row.request, row.tokens, ended, self._encoder.decode, row.opened)


class _State:
    """The cache, mask and last logits of the rows that are still being written."""

    def __init__(
        self, forward: Forward, cache: Any, mask: torch.Tensor, positions: torch.Tensor
    ) -> None:
        self._forward = forward
        self._cache = cache
        self._mask = mask
        self._positions = positions
        self._logits: torch.Tensor | None = None

    def feed(self, ids: torch.Tensor, positions: torch.Tensor) -> None:
        """Run new tokens, [rows, new]."""
        self._logits = self._forward.run(
            ids, self._cache, keep=1, mask=self._mask, positions=positions
        )[:, -1]

    def next_tokens(self) -> list[int]:
        """The most likely next token of each row."""
        if self._logits is None:
            return []
        return [int(token) for token in self._logits.argmax(-1).tolist()]

    def step(self, keep: list[int], tokens: list[int]) -> None:
        """Drop the rows that ended and run one token for each of the others."""
        import torch

        device = self._mask.device
        if len(keep) < len(self._mask):
            index = torch.tensor(keep, device=device)
            self._cache.batch_select_indices(index)
            self._mask, self._positions = self._mask[index], self._positions[index]
        self._mask = torch.cat([self._mask, self._mask.new_ones(len(keep), 1)], dim=1)
        self._positions = self._positions + 1
        self.feed(torch.tensor(tokens, device=device)[:, None], self._positions)


def _extend(rows: Sequence[_Row], tokens: Sequence[int]) -> None:
    for row, token in zip(rows, tokens, strict=True):
        row.tokens.append(token)


def _answer(row: _Row, text: str, cut_off: bool, seconds: float) -> Answer:
    return Answer(
        row.request.id,
        text=text,
        cut_off=cut_off,
        prompt_tokens=len(row.item.prompt),
        output_tokens=len(row.tokens),
        seconds=seconds,
    )


def _halves(batch: Batch, done: set[int], error: BaseException) -> list[Batch]:
    """Split the rest of a batch that ran out of memory into two."""
    left = tuple(item for item in batch.items if item.key not in done)
    if len(left) == 1 and len(batch.items) == 1:
        raise BenchError(
            f"memory does not suffice for one prompt of {len(left[0].prompt)} tokens",
            "use fewer examples (`--shots 0`), a smaller model or `--dtype bfloat16`",
        ) from error
    middle = len(left) // 2
    parts = (left[middle:], left[:middle])
    return [Batch(batch.prefix, part) for part in parts if part]
