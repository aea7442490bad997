"""Samples that depend on names and a seed alone: even quotas of groups, order by hash.

They decide the fingerprints of runs and the rows of trainings, so that the same items give the
same sample in every version.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random
from typing import Literal, TypeVar

from domainlift.types import Question

Item = TypeVar("Item")
#: Which groups get one more where a limit cannot be divided evenly: those whose names come first,
#: so that a group that grows takes nothing from another, or the largest.
Remainder = Literal["first", "largest"]


def stratified(questions: Sequence[Question], limit: int, seed: int) -> list[Question]:
    """At most `limit` questions in their order, spread evenly over the domains.

    A larger limit takes the same questions and more, and a question that is added changes the
    sample by one at most.
    """
    return sample_evenly(
        questions, limit, seed, name=lambda q: q.id, kind=lambda q: q.domain, remainder="first"
    )


def sample_evenly(
    items: Sequence[Item],
    size: int | None,
    seed: int,
    *,
    name: Callable[[Item], str],
    kind: Callable[[Item], str],
    remainder: Remainder = "largest",
) -> list[Item]:
    """At most `size` items in their order, an even share of each kind; all where it is None.

    Those of a kind are taken by `hash_order` of their names.
    """
    if size is None or size >= len(items):
        return list(items)
    by_kind: dict[str, list[int]] = defaultdict(list)
    for index, item in enumerate(items):
        by_kind[kind(item)].append(index)
    quotas = even_quotas({each: len(held) for each, held in by_kind.items()}, size, remainder)
    chosen: set[int] = set()
    for each, held in by_kind.items():
        ranked = sorted(held, key=lambda index: hash_order(name(items[index]), seed))
        chosen.update(ranked[: quotas[each]])
    return [item for index, item in enumerate(items) if index in chosen]


def even_quotas(
    sizes: Mapping[str, int], limit: int, remainder: Remainder = "first"
) -> dict[str, int]:
    """Divide `limit` evenly among groups; what a small group cannot take goes to the others."""
    level, left = 0, limit
    for done, size in enumerate(sorted(sizes.values())):
        level = left // (len(sizes) - done)
        if size > level:
            break
        left -= size
    larger = [name for name in sorted(sizes) if sizes[name] > level]
    if remainder == "largest":
        larger.sort(key=lambda name: (sizes[name], name), reverse=True)
    extra = set(larger[: left - level * len(larger)])
    return {name: min(size, level + (name in extra)) for name, size in sizes.items()}


def hash_order(name: str, seed: int | str | None = None) -> bytes:
    """SHA-256 of the seed and a name, as a key to sort by."""
    text = name if seed is None else f"{seed}:{name}"
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).digest()


def seeded_random(name: str, seed: int) -> Random:
    """A random generator of a name's own."""
    return Random(hash_order(name, seed).hex())


def duplicate_ids(questions: Iterable[Question]) -> set[str]:
    """Ids that occur more than once."""
    seen: set[str] = set()
    return {q.id for q in questions if q.id in seen or seen.add(q.id)}  # type: ignore[func-returns-value]
