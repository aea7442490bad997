"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

Workspace = Annotated[
    Path,
    typer.Option(
        "--workspace", envvar="BENCH_WORKSPACE", help="Where everything is kept.", show_default=True
    ),
]
Data = Annotated[
    Path | None,
    typer.Option("--data", envvar="BENCH_DATA", help="A local mirror of the data sets."),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]

WORKSPACE = Path("workspace")
#: What an option stands for that may be given without a value (see `bench.app`).
ALL = "all"
