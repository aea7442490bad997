"""Terminal output: lines, tables, notes, durations, JSON; all text in it may be foreign."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Collection, Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

from domainlift.text.display import printable


def console() -> Console:
    """Standard output; wide where it is not a terminal, so that nothing is cut off in a file."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else 160
    return Console(width=width, highlight=False)


def print_line(text: str, style: str = "", *, soft_wrap: bool = False) -> None:
    """Print a line without control characters; markup is taken as text."""
    console().print(Text(printable(text), style=style), soft_wrap=soft_wrap)


def print_table(
    columns: Sequence[str], rows: Iterable[Sequence[str | Text]], right: Collection[str] = ()
) -> None:
    """Print rows under lower-case headers, without lines; texts go without control characters."""
    grid = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        grid.add_column(column, justify="right" if column in right else "left", overflow="fold")
    for row in rows:
        grid.add_row(*(Text(printable(cell)) if isinstance(cell, str) else cell for cell in row))
    console().print(grid)


def print_json(value: object) -> None:
    """Print one line of JSON."""
    print(json.dumps(value, ensure_ascii=False), flush=True)


def print_note(text: str) -> None:
    """Print a note to stderr."""
    print(f"note: {printable(text)}", file=sys.stderr)


def duration(seconds: float) -> str:
    """Two units at most: 12 s, 3 min 20 s, 2 h 05 min."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02} min"
