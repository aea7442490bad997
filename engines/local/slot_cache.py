"""Key-value cache of rows that join and leave: each has a slot, and positions of its own."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from transformers.cache_utils import Cache, CacheLayerMixin

_STEP = 256  # slots grow by so many positions


class NoRoom(MemoryError):
    """The cache would exceed its limit; with so many `rows` it would not."""

    def __init__(self, rows: int) -> None:
        super().__init__(f"room for {rows} rows")
        self.rows = rows


@dataclass
class _Aim:
    """Where a pass writes, [rows, new], how far it reads, and the (slots, positions) there are."""

    slots: list[int]
    at: torch.Tensor
    length: int
    room: tuple[int, int]

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
        super().__init__(layers=[_SlotLayer() for _ in range(layers)])
        self._most = most
        self._room = (0, 0)

    def aim(self, slots: list[int], at: torch.Tensor, length: int) -> None:
        """Set where the next pass writes, -1 for padding; NoRoom beyond the limit."""
        self._grow(max(slots) + 1, length)
        for layer in self.layers:
            layer.aim = _Aim(slots, at, length, self._room)

    def copy(self, target: int, source: int, length: int) -> None:
        """Copy the first positions of one slot to another."""
        self._grow(target + 1, length)
        for layer in self.layers:
            layer.reserve(*self._room)
            for each in (layer.keys, layer.values):
                each[target, :, :length] = each[source, :, :length]

    def _grow(self, slots: int, length: int) -> None:
        """Choose what the layers reserve: a quarter more positions where the limit allows it."""
        slots, before = max(slots, self._room[0]), self._room[1]
        needed = -(-(length + 1) // _STEP) * _STEP
        if slots == self._room[0] and needed <= before:
            return
        position = sum(layer.bytes_of_position for layer in self.layers)
        most = self._most // position if position else slots * needed
        if slots * max(needed, before) > most:
            raise NoRoom(most // max(needed, before))
        ample = min(before * 5 // 4, most // slots) // _STEP * _STEP
        self._room = slots, before if needed <= before else max(needed, ample)


class _SlotLayer(CacheLayerMixin):  # type: ignore[misc]
    def __init__(self) -> None:
        super().__init__()
        self.is_initialized: bool = False
        self.aim: _Aim | None = None

    @property
    def bytes_of_position(self) -> int:
        """What one position of a slot takes; 0 while that is not known."""
        each = (self.keys, self.values) if self.is_initialized else ()
        return sum(t.shape[1] * t.shape[3] * t.itemsize for t in each)

    def reserve(self, slots: int, positions: int, *like: torch.Tensor) -> None:
        """Have room; `like` are keys and values of the shape of a layer that has none yet."""
        if not self.is_initialized:
            self.keys, self.values = (t.new_zeros(0, t.shape[1], 0, t.shape[3]) for t in like)
            self.is_initialized = True
        if (slots, positions) != (self.keys.shape[0], self.keys.shape[2]):
            self.keys, self.values = (
                _padded(t, slots, positions) for t in (self.keys, self.values)
            )

    def lazy_initialization(self, key_states: torch.Tensor, value_states: torch.Tensor) -> None:
        """Nothing: `update` reserves what it needs."""

    def update(
        self, key_states: torch.Tensor, value_states: torch.Tensor, *_: Any, **__: Any
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Write [rows, heads, new, dimension], and return what the rows may see."""
        aim = self.aim
        assert aim is not None  # noqa: S101  # set before each pass
        self.reserve(*aim.room, key_states, value_states)
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


def _padded(tensor: torch.Tensor, slots: int, positions: int) -> torch.Tensor:
    """The same with more slots and positions, zeros: what is masked must be finite."""
    larger = tensor.new_zeros(slots, tensor.shape[1], positions, tensor.shape[3])
    larger[: tensor.shape[0], :, : tensor.shape[2]] = tensor
    return larger
