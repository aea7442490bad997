"""Packing: rows that go through the model in one pass."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch

from finetune.training.attention import groups
from finetune.training.tokenize import Encoded

#: Logits of one pack take at most this many entries: 256 MiB in float32.
_LOGITS = 2**26


@dataclass(frozen=True)
class PackLimits:
    """Limits of one pack: token positions, and positions with logits."""

    tokens: int
    trained: int

    def halved(self) -> PackLimits:
        """Half of both."""
        return PackLimits(max(1, self.tokens // 2), max(1, self.trained // 2))


@dataclass(frozen=True)
class Pack:
    """Tensors for one call of the model.

    ids      [1, tokens], rows one behind the other; or [rows, longest], padded on the right
    keep     the positions to project: indices into tokens, or a mask of [rows, longest]
    targets  [kept], the token that each of them is to predict, in the same order; with `shares`
             [kept, n], tokens among which the prediction is to be shared out
    shares   [kept, n], or None where there is one token for each
    extra    further arguments of the call
    """

    ids: torch.Tensor
    logit_positions: torch.Tensor
    targets: torch.Tensor
    extra: Mapping[str, Any] = field(default_factory=dict)
    soft_targets: torch.Tensor | None = None


def most_trained(vocabulary: int) -> int:
    """How many positions of one pack may have logits at once."""
    return max(16, _LOGITS // vocabulary)


def best_fit(
    examples: Sequence[Encoded], limits: PackLimits, padding: bool = False
) -> list[list[Encoded]]:
    """Best-fit decreasing: each row goes where it leaves the least room; the longest come first.

    Johnson 1973: at most 11/9 of the fewest possible bins. A row beyond the limits has a bin of
    its own. Within a bin rows stand from the longest to the shortest; with `padding` each takes
    as many tokens as the longest.
    """
    filled: list[list[Encoded]] = []
    room: list[tuple[int, int]] = []
    for example in sorted(examples, key=lambda e: (-len(e.ids), e.ids)):
        costs = [len((each[0] if padding else example).ids) for each in filled]
        fitting = [
            (left - costs[index], index)
            for index, (left, reads) in enumerate(room)
            if left >= costs[index] and reads >= example.trained
        ]
        if fitting:
            left, index = min(fitting)
            filled[index].append(example)
            room[index] = (left, room[index][1] - example.trained)
        else:
            filled.append([example])
            left = limits.tokens - len(example.ids)
            room.append((left, limits.trained - example.trained))
    return filled


def pack_rows(examples: Sequence[Encoded], device: Any = None) -> Pack:
    """Rows one behind the other, nothing padded; for a model under `attention.rows_apart`."""
    lengths = [len(example.ids) for example in examples]
    keep: list[int] = []
    start = 0
    for example, length in zip(examples, lengths, strict=True):
        keep += [start + place - 1 for place in example.places]
        start += length
    positions = [place for length in lengths for place in range(length)]
    return Pack(
        torch.tensor([[token for e in examples for token in e.ids]], device=device),
        torch.tensor(keep, device=device),
        _targets(examples, device),
        {"position_ids": torch.tensor([positions], device=device), "rows": groups(lengths, device)},
    )


def pad_rows(examples: Sequence[Encoded], device: Any = None) -> Pack:
    """Rows below one another, padded on the right, where causal attention never sees it."""
    longest = max(len(example.ids) for example in examples)
    ids = torch.zeros(len(examples), longest, dtype=torch.long)
    keep = torch.zeros(len(examples), longest, dtype=torch.bool)
    for row, example in enumerate(examples):
        ids[row, : len(example.ids)] = torch.tensor(example.ids)
        keep[row, [place - 1 for place in example.places]] = True
    return Pack(ids.to(device), keep.to(device), _targets(examples, device))


def _targets(examples: Sequence[Encoded], device: Any) -> torch.Tensor:
    return torch.tensor([token for e in examples for token in e.targets], device=device)
