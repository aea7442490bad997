"""A shop of goods with made-up names, tools that know it, and traces of an agent that asks them.

Each trace is of goods of its own, so that traces that are held out are of goods never seen.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from itertools import product
from random import Random
from typing import Any

from traces.trace import Json, Trace, TraceStatus

COUNT, SEED = 140, 0
_SYSTEM = "Ask the tools. Answer with a number or a name alone."
_SYLLABLES = (
    *("bri", "dor", "fen", "gal", "hul", "jas", "kel", "lum", "mor", "nev", "pol"),
    *("quin", "ros", "sil", "tam", "vek", "wil", "yor", "zan"),
)
_ENDINGS = ("on", "ak", "el", "ir", "um", "ast", "ip", "oz")
#: A call of a tool: its name and arguments.
Call = tuple[str, Mapping[str, Any]]


def shop_traces(count: int = COUNT, seed: int = SEED) -> Iterator[Trace]:
    """So many traces; the same seed gives the same ones."""
    random = Random(seed)
    names = ["".join(parts) for parts in product(_SYLLABLES, _SYLLABLES, _ENDINGS)]
    goods = random.sample(names, 4 * count)
    for n in range(count):
        own = goods[4 * n : 4 * n + 4]
        counts = random.sample(range(2, 99), len(own))
        shop = {name: (each, random.randint(2, 12)) for name, each in zip(own, counts, strict=True)}
        turns = random.sample(list(_TURNS), random.choice((1, 1, 2)))
        messages: list[Json] = [{"role": "system", "content": _SYSTEM}]
        for turn in turns:
            messages += turn(shop, own, random)
        yield Trace(
            f"shop-{seed}-{n:03d}",
            "2026-11-27T00:00:00+00:00",
            "scripted",
            tuple(messages),
            TOOLS,
            TraceStatus.DONE,
            solved=True,
            task=f"shop-{seed}-{n:03d}",
        )


def use_tool(shop: Mapping[str, tuple[int, int]], call: Call) -> str:
    """What a tool says; `shop` has the pieces in stock and the price of each good."""
    name, arguments = call
    if name == "multiply":
        return str(arguments["a"] * arguments["b"])
    return str(shop[arguments["item"]][name == "price"])


def _tool(name: str, what: str, **arguments: str) -> Json:
    properties = {each: {"type": kind} for each, kind in arguments.items()}
    parameters = {"type": "object", "properties": properties}
    function = {"name": name, "description": what, "parameters": parameters}
    return {"type": "function", "function": function}


TOOLS = (
    _tool("stock", "Pieces in stock.", item="string"),
    _tool("price", "Price of a piece.", item="string"),
    _tool("multiply", "Product of two numbers.", a="integer", b="integer"),
)


# --- turns: a question, calls until it can be answered, the answer

Turn = Callable[[Mapping[str, tuple[int, int]], Sequence[str], Random], list[Json]]


def _stock(shop: Mapping[str, tuple[int, int]], own: Sequence[str], random: Random) -> list[Json]:
    said, (count,) = _asked(shop, ("stock", {"item": own[0]}))
    return [_user(f"How many pieces of {own[0]} are there?"), *said, _answer(count)]


def _total(shop: Mapping[str, tuple[int, int]], own: Sequence[str], random: Random) -> list[Json]:
    number = random.randint(2, 9)
    first, (price,) = _asked(shop, ("price", {"item": own[1]}))
    second, (total,) = _asked(shop, ("multiply", {"a": number, "b": int(price)}))
    return [_user(f"What do {number} pieces of {own[1]} cost?"), *first, *second, _answer(total)]


def _more(shop: Mapping[str, tuple[int, int]], own: Sequence[str], random: Random) -> list[Json]:
    calls = [("stock", {"item": name}) for name in own[2:]]
    said, counts = _asked(shop, *calls)
    best = max(zip(map(int, counts), own[2:], strict=True))[1]
    return [_user(f"Of which are there more, {own[2]} or {own[3]}?"), *said, _answer(best)]


_TURNS: tuple[Turn, ...] = (_stock, _total, _more)


def _asked(shop: Mapping[str, tuple[int, int]], *calls: Call) -> tuple[list[Json], tuple[str, ...]]:
    results = tuple(use_tool(shop, call) for call in calls)
    made = [
        {
            "id": f"call_{n}",
            "type": "function",
            "function": {"name": name, "arguments": json.dumps(arguments)},
        }
        for n, (name, arguments) in enumerate(calls, 1)
    ]
    told = [
        {"role": "tool", "content": result, "tool_call_id": f"call_{n}"}
        for n, result in enumerate(results, 1)
    ]
    return [{"role": "assistant", "content": "", "tool_calls": made}, *told], results


def _user(text: str) -> Json:
    return {"role": "user", "content": text}


def _answer(text: str) -> Json:
    return {"role": "assistant", "content": text}
