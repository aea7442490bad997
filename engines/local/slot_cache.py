"""Key-value cache of rows that join and leave: each has a slot, and positions of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

_STEP = 256  # slots grow by so many positions, and at least double


@dataclass
class _Aim:
    """Where the next pass writes, [rows, new], and how far it reads."""

    slots: list[int]
    at: torch.Tensor
    length: int

    @property
    def rows(self) -> slice | list[int]:
        """The slots, as a view of the cache where they are neighbours."""
        first = self.slots[0]
        neighbours = self.slots == list(range(first, first + len(self.slots)))
        return slice(first, first + len(self.slots)) if neighbours else self.slots


class SlotCache(Cache):  # type: ignore[misc]
    """Keys and values by layer, [slots, heads, positions, dimension], of at most so many bytes.

    The last position of each slot takes what is padding, and is never read.
    """

    def __init__(self, layers: int, most: int) -> None:
        self._most = most
        super().__init__(layers=[_SlotLayer() for _ in range(layers)])

    def aim(self, slots: list[int], at: torch.Tensor, length: int) -> None:
        """Set where the next pass writes; -1 is for padding. MemoryError beyond the limit."""
        capacity = -(-(length + 1) // _STEP) * _STEP
        used = sum(layer.bytes(max(slots) + 1, capacity) for layer in self.layers)
        if used > self._most:
            raise MemoryError(f"{used} bytes of keys and values")
        for layer in self.layers:
            layer.aim = _Aim(slots, at, length)

    def copy(self, target: int, source: int, length: int) -> None:
        """Copy the first positions of one slot to another."""
        for layer in self.layers:
            layer.reserve(target + 1, length + 1)
            for each in (layer.keys, layer.values):
                each[target, :, :length] = each[source, :, :length]

    def begin(self, slot: int, other: Any, length: int) -> None:
        """Let a slot begin with the keys and values of another cache's only row."""
        for layer, given in zip(self.layers, other.layers, strict=True):
            layer.reserve(slot + 1, length + 1, given.keys, given.values)
            layer.keys[slot, :, :length] = given.keys[0]
            layer.values[slot, :, :length] = given.values[0]


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.is_initialized: bool = False
        self.aim: _Aim | None = None

    def bytes(self, slots: int, capacity: int) -> int:
        """What the cache of this layer takes where it must hold this; 0 while nothing is known."""
        if not self.is_initialized:
            return 0
        slots, capacity = self._grown(slots, capacity)
        each = (self.keys, self.values)
        return sum(slots * capacity * t.shape[1] * t.shape[3] * t.itemsize for t in each)

    def _grown(self, slots: int, capacity: int) -> tuple[int, int]:
        has = self.keys.shape[0], self.keys.shape[2]
        return max(slots, has[0]), has[1] if capacity <= has[1] else max(capacity, 2 * has[1])

    def reserve(self, slots: int, capacity: int, *like: torch.Tensor) -> None:
        """Have room; `like` are keys and values of the shape of a layer that has none yet."""
        if not self.is_initialized:
            self.keys, self.values = (t.new_zeros(1, t.shape[1], _STEP, t.shape[3]) for t in like)
            self.is_initialized = True
        room = self._grown(slots, capacity)
        if room != (self.keys.shape[0], self.keys.shape[2]):
            self.keys, self.values = (_padded(t, *room) for t in (self.keys, self.values))

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing: `update` reserves what it needs."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write [rows, heads, new, dimension], and return what the rows may see."""
        aim = self.aim
        assert aim is not None  # noqa: S101  # set before each pass
        self.reserve(max(aim.slots) + 1, aim.length + 1, key_states, value_states)
        place = torch.tensor(aim.slots, device=aim.at.device)[:, None]
        self.keys[place, :, aim.at] = key_states.transpose(1, 2)
        self.values[place, :, aim.at] = value_states.transpose(1, 2)
        return self.keys[aim.rows][:, :, : aim.length], self.values[aim.rows][:, :, : aim.length]

    def get_mask_sizes(self, query_length: int) -> tuple[int, int]:
        """Length and offset of what is seen; the mask is given with each pass."""
        return self.get_seq_length(), 0

    def get_seq_length(self) -> int:
        """The positions that are seen."""
        return self.aim.length if self.aim is not None else 0

    def get_max_length(self) -> int:
        """No maximum."""
        return -1


def _padded(tensor: torch.Tensor, slots: int, capacity: int) -> torch.Tensor:
    """The same with more slots and positions, zeros: what is masked must be finite."""
    larger = tensor.new_zeros(slots, tensor.shape[1], capacity, tensor.shape[3])
    larger[: tensor.shape[0], :, : tensor.shape[2]] = tensor
    return larger
