"""Forecast of `bench improve --dry-run`: stages with time and memory, and what is missing."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass

from domainlift.text.display import printable
from reports.terminal import console, duration, table


@dataclass(frozen=True)
class Stage:
    """One stage; None where nothing was measured from which it could be foretold.

    `seconds` are those of as many questions as may be asked, at the pace of an earlier run;
    `memory` and `disk` are in bytes.
    """

    name: str
    what: str
    seconds: float | None = None
    memory: int | None = None
    disk: int | None = None


@dataclass(frozen=True)
class Missing:
    """What is not there, and the command that mends it."""

    what: str
    hint: str


@dataclass(frozen=True)
class Forecast:
    """All stages in their order."""

    model: str
    stages: Sequence[Stage]
    missing: Sequence[Missing]


def show_forecast(found: Forecast, *, as_json: bool) -> None:
    """Print a forecast."""
    if as_json:
        print(json.dumps(asdict(found), ensure_ascii=False))
        return
    from rich.text import Text

    grid = table("stage", "what", "time", "memory", "disk")
    for stage in found.stages:
        cells = (
            stage.name,
            stage.what,
            _time(stage.seconds),
            _bytes(stage.memory),
            _bytes(stage.disk),
        )
        grid.add_row(*(Text(printable(cell)) for cell in cells))
    out = console()
    if found.stages:
        out.print(grid)
    for each in found.missing:
        out.print(Text(printable(f"missing: {each.what}"), style="bold"))
        if each.hint:
            out.print(Text(printable(f"   {each.hint}")))
    if not found.missing:
        out.print("nothing is missing")


def _time(seconds: float | None) -> str:
    if not seconds:
        return "not measured yet" if seconds is None else "-"
    return f"≤ {duration(seconds)}"


def _bytes(count: int | None) -> str:
    if count is None:
        return "-"
    return f"{count / 2**30:.1f} GiB" if count >= 2**30 else f"{count / 2**20:.0f} MiB"
