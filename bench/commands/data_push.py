"""`bench data push`: traces and training rows to the Hub."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import typer

from bench.commands.trace_exchange import chosen_traces
from bench.commands.trace_review import counted
from bench.options import WORKSPACE, Json, Solved, TraceRating, Unmarked, WorkspaceOption
from domainlift.errors import Misuse
from finetune.data.push import HubUpload, build_upload, check_repository, rows_to_push, upload
from reports.terminal import print_json, print_line
from traces.choose import TraceCriteria, WantedRating


def push_command(
    names: Annotated[
        list[str],
        typer.Argument(
            metavar="[NAME|FILE] REPO",
            help="A prepared data set or a file, unless `--traces`; and a repository, USER/NAME.",
        ),
    ],
    traces: Annotated[bool, typer.Option("--traces", help="Push the workspace's traces.")] = False,
    rating: TraceRating = WantedRating.NOT_BAD,
    unmarked: Unmarked = False,
    solved: Solved = False,
    yes: Annotated[
        bool, typer.Option("--yes", help="Upload; without it, only say what would be.")
    ] = False,
    public: Annotated[bool, typer.Option("--public", help="For everybody to see.")] = False,
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Push traces or training rows to the Hub as Parquet, with secrets masked; dry run first.

    The columns are id, timestamp, model, messages and tools. The token is that of `hf auth login`,
    or HF_TOKEN.

    Example: bench data push --traces me/my-traces --rating good
    """
    if len(names) != (1 if traces else 2):
        raise Misuse(
            "say what is pushed, and where to",
            "`bench data push NAME USER/REPO`, or `bench data push --traces USER/REPO`",
        )
    check_repository(names[-1])
    criteria = TraceCriteria(rating, unmarked, solved)
    splits = (
        {"train": chosen_traces(workspace, criteria)[0]}
        if traces
        else rows_to_push(names[0], workspace)
    )
    if not any(splits.values()):
        raise Misuse("there is nothing to push", "bench trace list")
    with TemporaryDirectory() as folder:
        made = build_upload(splits, Path(folder))
        if not as_json:
            _show(made, names[-1], public)
        address = upload(made, names[-1], public=public) if yes else ""
    if as_json:
        row = {"repository": names[-1], "rows": made.rows, "bytes": made.bytes}
        told = {"masked": made.masked, "public": public, "uploaded": yes, "url": address}
        print_json({**row, **told})
    else:
        print_line(f"uploaded: {address}" if yes else "nothing was uploaded; `--yes` does it")


def _show(made: HubUpload, repository: str, public: bool) -> None:
    print_line(f"to {repository}, {'public' if public else 'private'}")
    print_line(f"rows: {counted(dict(made.rows))}; {made.bytes:,} bytes")
    print_line(f"secrets masked: {counted(made.masked) or 'none'}")
