"""Read option letters from the alternatives that a server returns for one generated token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace

from domainlift.errors import BenchError
from engines.base import Answer
from engines.servers.responses import get_path

# Servers write "never" as -9999 or as the lowest float; below this all are the same to us, and
# a finite number can be stored as JSON.
LOWEST = -9999.0
# What rounding of float32 log-probabilities may add up to.
_ROUNDING = 1e-6
_EXCESS = 0.01

Alternative = tuple[str, float]


def with_letters(answer: Answer, found: object, options: Sequence[str]) -> Answer:
    """Fill an answer with the letters among the alternatives of one token, in either shape.

    A letter owns every token that differs from it in white space only; their probabilities add up.
    One that is not among them stands with an upper bound, and is no part of the mass: where every
    letter is bounded, all are equal, and the model has chosen none.
    """
    tokens = [(bare(token), value) for token, value in alternatives_of(found)]
    floor = _floor([value for _, value in tokens])
    top = max(tokens, key=lambda each: each[1])[0]
    letters = [bare(option) for option in options]
    values_of = [[value for token, value in tokens if token == letter] for letter in letters]
    return replace(
        answer,
        logprobs=tuple(_add(values) if values else floor for values in values_of),
        greedy=tuple(letter == top for letter in letters),
        mass=min(1.0, sum(math.exp(value) for values in values_of for value in values)),
        n_bounded=sum(not values for values in values_of),
    )


def first_alternatives(reply: object) -> object:
    """Find the first token's alternatives in either shape; None where there are none."""
    logprobs = get_path(reply, "choices", 0, "logprobs")
    legacy = get_path(logprobs, "top_logprobs", 0)
    return get_path(logprobs, "content", 0, "top_logprobs") if legacy is None else legacy


def alternatives_of(found: object) -> list[Alternative]:
    """Read either shape that servers use: `{token: logprob}` or `[{"token", "logprob"}]`."""
    if isinstance(found, dict):
        pairs = list(found.items())
    elif isinstance(found, list) and all(isinstance(each, dict) for each in found):
        pairs = [(each.get("token"), each.get("logprob")) for each in found]
    else:
        raise BenchError("the reply's log-probabilities have an unknown shape")
    if not pairs:
        raise BenchError("the reply holds no alternatives for the first token")
    checked = [_checked(token, value) for token, value in pairs]
    total = sum(math.exp(value) for _, value in checked)
    if total > 1 + _EXCESS:  # they cannot belong to one distribution
        raise BenchError(f"the reply's probabilities add up to `{total:.3g}`")
    return checked


def bare(token: str) -> str:
    """Take the white space off a token, also as tokenizers write it."""
    return token.replace("▁", " ").replace("Ġ", " ").strip()


def _checked(token: object, value: object) -> Alternative:
    fine = isinstance(token, str) and not isinstance(value, bool)
    # A comparison with NaN is false, so NaN is refused here as well.
    if not fine or not isinstance(value, int | float) or not value <= _ROUNDING:
        raise BenchError(f"`{value}` is no log-probability of a token")
    return str(token), float(min(0.0, max(LOWEST, value)))


def _floor(values: Sequence[float]) -> float:
    """Bound what is not in the list: by the smallest that is, and by what is left of 1."""
    left = max(1 - sum(math.exp(value) for value in values), _ROUNDING)
    return min(*values, math.log(left))


def _add(values: Sequence[float]) -> float:
    top = max(values)
    return min(0.0, top + math.log(sum(math.exp(value - top) for value in values)))
