"""Countdown: make a target of given numbers; problems drawn from a seed, no data set needed."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from random import Random

from benchmarks.scoring.arithmetic import COUNTDOWN_SCORER, read_expression
from benchmarks.tasks.base import (
    MAX_TOKENS,
    STOP,
    Task,
    TaskRequest,
    with_ids,
    zero_shot_task,
)
from domainlift.sampling import seeded_random
from domainlift.types import Question, Split
from engines.base import Mode

#: Problems of each split at most, and of 100 drawn ones those that fall into it.
_SIZES: Mapping[Split, int] = {"train": 2000, "validation": 200, "test": 500}
_SHARES: Mapping[Split, range] = {
    "train": range(60),
    "validation": range(60, 75),
    "test": range(75, 100),
}
_LARGEST_TARGET = 100
_DRAWS = 40_000


@dataclass(frozen=True)
class Countdown:
    """Tasks `countdown:N` with N numbers up to `largest`; the same problems for everybody.

    A problem's numbers and target together decide its split, so no split holds one of another's.
    """

    largest: Mapping[int, int]
    seed: int = 0
    domains: Mapping[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """A task for each count of numbers."""
        return tuple(f"countdown:{count}" for count in self.largest)

    def load(self, request: TaskRequest) -> Task:
        """Draw one split of one task."""
        questions = with_ids(request.name, self._questions(request))
        return zero_shot_task(
            request.name,
            request.domain,
            questions,
            Mode.GENERATE,
            stop=STOP,
            max_tokens=MAX_TOKENS,
            scorer=COUNTDOWN_SCORER,
        )

    def _questions(self, request: TaskRequest) -> Iterator[Question]:
        count, split = int(request.rest), request.split
        draw = seeded_random(request.name, self.seed)
        seen: set[tuple[object, ...]] = set()
        for _ in range(_DRAWS):
            if len(seen) == _SIZES[split]:
                return
            text = _draw(draw, [draw.randint(1, self.largest[count]) for _ in range(count)])
            made = read_expression(text)
            if made is None or made.value.denominator > 1 or not 0 < made.value <= _LARGEST_TARGET:
                continue
            key = (*made.numbers, int(made.value))
            if key in seen or _share(key) not in _SHARES[split]:
                continue
            seen.add(key)
            numbers = list(made.numbers)
            draw.shuffle(numbers)
            given = f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}"
            asked = f"Make {made.value} of {given}, each used once (+ - * /)."
            yield Question("", request.domain, request.name, asked, (), text, split=split)


def _draw(draw: Random, numbers: list[int]) -> str:
    """An expression of all the numbers, joined two by two."""
    parts = list(map(str, numbers))
    while len(parts) > 1:
        one, other = (parts.pop(draw.randrange(len(parts))) for _ in range(2))
        joined = f"{one} {draw.choice('+-*/')} {other}"
        parts.append(f"({joined})" if parts else joined)
    return parts[0]


def _share(key: tuple[object, ...]) -> int:
    return int(hashlib.sha256(repr(key).encode()).hexdigest()[:8], 16) % 100


COUNTDOWN = Countdown({2: 20, 3: 10, 4: 10})
