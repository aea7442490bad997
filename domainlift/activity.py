"""What the process is doing, in a few words: for whoever has to say so while nothing else does."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

_under_way: list[tuple[str, float]] = []


@contextmanager
def activity(what: str) -> Iterator[None]:
    """Name what the block does, within what is named around it; `bench` tells it after seconds.

    "" is for what waits for somebody, or shows by itself that it goes on: nothing is told of it.
    """
    begun = (what, time.monotonic())
    _under_way.append(begun)
    try:
        yield
    finally:
        # Not the last one: that may be another thread's.
        _under_way.remove(begun)


def current_activity() -> tuple[str, float] | None:
    """The innermost activity, and the seconds since it began; None outside of all."""
    # One look: the list may be changed by another thread between two.
    under_way = _under_way[-1:]
    return (under_way[0][0], time.monotonic() - under_way[0][1]) if under_way else None
