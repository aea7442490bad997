"""Choose which questions are asked."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from domainlift.types import Question


def stratified(questions: Sequence[Question], limit: int, seed: int) -> list[Question]:
    """At most `limit` questions, spread over the domains as evenly as their sizes allow.

    Each domain's questions are put into an order that depends on the seed and on each question
    alone, and are taken from its beginning. A larger limit therefore asks the same questions and
    more, and a question that is added to a data set does not change which others are taken.
    """
    by_domain: dict[str, list[Question]] = defaultdict(list)
    for question in questions:
        by_domain[question.domain].append(question)
    quotas = even_quotas({name: len(group) for name, group in by_domain.items()}, limit)
    chosen = {
        question.id
        for name, group in by_domain.items()
        for question in sorted(group, key=lambda q: _rank(q.id, seed))[: quotas[name]]
    }
    return [question for question in questions if question.id in chosen]


def even_quotas(sizes: Mapping[str, int], limit: int) -> dict[str, int]:
    """Share out `limit` evenly; what a small group cannot take goes to the others.

    Who gets one more where it does not come out even depends on the names alone, so that a
    group that grows takes nothing from another.
    """
    level, left = 0, limit
    for done, size in enumerate(sorted(sizes.values())):
        level = left // (len(sizes) - done)
        if size > level:
            break
        left -= size
    larger = [name for name in sorted(sizes) if sizes[name] > level]
    more = set(larger[: left - level * len(larger)])
    return {name: min(size, level + (name in more)) for name, size in sizes.items()}


def duplicate_ids(questions: Iterable[Question]) -> set[str]:
    """Ids that occur more than once."""
    seen: set[str] = set()
    return {q.id for q in questions if q.id in seen or seen.add(q.id)}  # type: ignore[func-returns-value]


def _rank(identity: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}:{identity}".encode()).digest()
