"""Mix of a recipe: which rows, how many of each domain, in which order."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from random import Random

from domainlift.errors import BenchError, NoSuch
from domainlift.sampling import hash_order
from finetune.data.recipe import Recipe
from finetune.data.rows import Row

REPLAY = "replay"
#: How hard each row is for the base model, its loss, say.
Difficulty = Callable[[Sequence[Row]], Sequence[float]]
Rows = Mapping[str, Sequence[Row]]


@dataclass(frozen=True)
class Mix:
    """The rows in the order of training, with the counts of new and replay rows per domain.

    `repeated` says how often each row of a domain stands in it on average, where that is over
    once; the replay rows of a domain are named `DOMAIN (replay)`.
    """

    rows: tuple[Row, ...]
    new: Mapping[str, int]
    replay: Mapping[str, int]
    repeated: Mapping[str, float]
    notes: tuple[str, ...] = ()


def mix(
    rows_by_domain: Rows, recipe: Recipe, size: int, difficulty: Difficulty | None = None
) -> Mix:
    """Take `size` rows as the recipe says; the same rows and seed give the same mix.

    Rows of the kind `replay` are distributed evenly among their domains; all others are new.
    Rows are repeated only where a domain has too few. A domain of the recipe without any row is
    an error.
    """
    fresh, replay = _parted(rows_by_domain, recipe)
    old_size = round(size * recipe.replay / (1 + recipe.replay)) if replay else 0
    new = _apportioned(recipe.proportions, size - old_size)
    old = _apportioned({domain: 1 / len(replay) for domain in replay}, old_size)
    taken = [*_taken(fresh, new, recipe.seed), *_taken(replay, old, recipe.seed)]
    repeated = {**_repeated(fresh, new, ""), **_repeated(replay, old, " (replay)")}
    notes = [f"{name}: each row stands {n:.3g} times in the mix" for name, n in repeated.items()]
    if recipe.replay and not replay:
        notes.append("no replay rows: nothing keeps what the model knows already")
    return Mix(tuple(_ordered(taken, recipe, difficulty)), new, old, repeated, tuple(notes))


def natural_size(rows_by_domain: Rows, recipe: Recipe) -> int:
    """The largest mix in which no row stands twice, but for what rounding asks."""
    fresh, replay = _parted(rows_by_domain, recipe)
    new = min(len(fresh[domain]) / share for domain, share in recipe.proportions.items())
    if replay and recipe.replay:
        old = min(map(len, replay.values())) * len(replay)
        new = min(new, old / recipe.replay) * (1 + recipe.replay)
    return int(new + 1e-9)


def _parted(rows_by_domain: Rows, recipe: Recipe) -> tuple[Rows, Rows]:
    """The new rows of the recipe's domains, and the replay rows of all domains.

    A domain of the recipe that has replay rows only, as a strength has, gives those.
    """
    fresh: dict[str, list[Row]] = {}
    for domain in recipe.proportions:
        if domain not in rows_by_domain:
            raise NoSuch("domain with rows", domain, rows_by_domain)
        own = rows_by_domain[domain]
        fresh[domain] = [row for row in own if row.kind != REPLAY] or list(own)
        if not own:
            raise BenchError(f"`{domain}` has no rows", f"bench data prepare {domain}")
    replay = {
        domain: [row for row in rows if row.kind == REPLAY]
        for domain, rows in rows_by_domain.items()
        if any(row.kind != REPLAY for row in rows) or domain not in fresh
    }
    return fresh, {domain: rows for domain, rows in replay.items() if rows}


def _apportioned(shares: Mapping[str, float], total: int) -> dict[str, int]:
    """Whole numbers that sum to the total (largest remainders)."""
    counts = {name: math.floor(share * total + 1e-9) for name, share in sorted(shares.items())}
    by_rest = sorted(counts, key=lambda name: (counts[name] - shares[name] * total, name))
    for name in by_rest[: total - sum(counts.values())]:
        counts[name] += 1
    return counts


def _taken(rows: Rows, wanted: Mapping[str, int], seed: int) -> list[Row]:
    taken: list[Row] = []
    for domain, count in wanted.items():
        ranked = sorted(rows[domain], key=lambda row: hash_order(row.id, seed))
        whole, rest = divmod(count, len(ranked))
        taken += ranked * whole + ranked[:rest]
    return taken


def _repeated(rows: Rows, wanted: Mapping[str, int], label: str) -> dict[str, float]:
    times = {f"{domain}{label}": count / len(rows[domain]) for domain, count in wanted.items()}
    return {name: n for name, n in times.items() if n > 1}


def _ordered(rows: list[Row], recipe: Recipe, difficulty: Difficulty | None) -> list[Row]:
    if recipe.order == "shuffled":
        Random(recipe.seed).shuffle(rows)
        return rows
    if difficulty is None:
        raise BenchError(
            "the order `easy-to-hard` needs the base model's loss on each row",
            "write `order: shuffled` into the recipe",
        )
    distinct = list({row.id: row for row in rows}.values())
    losses = [math.inf if math.isnan(value) else value for value in difficulty(distinct)]
    hardness = dict(zip((row.id for row in distinct), losses, strict=True))
    return sorted(rows, key=lambda row: (hardness[row.id], hash_order(row.id, recipe.seed)))
