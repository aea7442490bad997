"""Published data: a local mirror in the authors' layout, or the hub."""

from __future__ import annotations

from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from domainlift.errors import BenchError, Misuse
from domainlift.hub_datasets import hub_rows


def mirror_file(data: Path | None, *parts: str) -> Path | None:
    """Return the file of the mirror, or None where there is no mirror or no such file in it."""
    if data is None:
        return None
    path = mirror_path(data, *parts)
    return path if path.is_file() else None


def mirror_path(folder: Path, *parts: str) -> Path:
    """Join the parts to the folder; a part that would lead out of it is refused."""
    for part in parts:
        for pure in (PurePosixPath(part), PureWindowsPath(part)):
            if pure.anchor or ".." in pure.parts:
                raise Misuse(f"`{part}` leads out of `{folder}`", "name a file inside the folder")
    return folder.joinpath(*parts)


def hub_split(path: str, config: str | None, split: str, *, layout: str) -> list[dict[str, Any]]:
    """Download one split of a data set (or read it from the cache) as a list of rows.

    `layout` is the mirror's file that would serve as well.
    """
    try:
        return [dict(row) for row in hub_rows(path, config, split)]
    except BenchError as error:
        raise BenchError(
            f"no data: {error.what}, and is in no mirror",
            f"go online once, or give `--data FOLDER` or BENCH_DATA with `{layout}`",
        ) from error
