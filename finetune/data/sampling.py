"""Choosing some of many, evenly and the same way every time."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

Item = TypeVar("Item")


def quotas(counts: Mapping[str, int], size: int) -> dict[str, int]:
    """How many of `size` each kind gives: an even share; what few cannot give, the others do."""
    wanted: dict[str, int] = {}
    for number, kind in enumerate(sorted(counts, key=lambda kind: (counts[kind], kind))):
        wanted[kind] = min(counts[kind], (size - sum(wanted.values())) // (len(counts) - number))
    left = min(size, sum(counts.values())) - sum(wanted.values())
    for kind in sorted(counts):
        more = min(left, counts[kind] - wanted[kind])
        wanted[kind], left = wanted[kind] + more, left - more
    return wanted


def choose_evenly(
    items: Sequence[Item],
    size: int | None,
    seed: int,
    *,
    name: Callable[[Item], str],
    kind: Callable[[Item], str],
) -> list[Item]:
    """At most `size` items in their order, an even share of each kind; all where it is None.

    Which ones depends on their names and the seed alone: another item may push one out, but
    changes nothing else.
    """
    if size is None or size >= len(items):
        return list(items)
    places: dict[str, list[int]] = defaultdict(list)
    for place, item in enumerate(items):
        places[kind(item)].append(place)
    wanted = quotas({each: len(found) for each, found in places.items()}, size)
    chosen: set[int] = set()
    for each, found in places.items():
        ranked = sorted(found, key=lambda place: seeded_order(name(items[place]), seed))
        chosen.update(ranked[: wanted[each]])
    return [item for place, item in enumerate(items) if place in chosen]


def seeded_order(name: str, seed: int) -> str:
    """Where a name stands in the order that a seed makes."""
    return hashlib.sha256(f"{seed}:{name}".encode("utf-8", "replace")).hexdigest()
