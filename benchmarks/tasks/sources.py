"""Published data: a local mirror in the authors' layout, or the hub."""

from __future__ import annotations

import logging
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import Any

from domainlift.errors import BenchError, Misuse


def mirror_file(data: Path | None, *parts: str) -> Path | None:
    """Return the file of the mirror, or None where there is no mirror or no such file in it."""
    if data is None:
        return None
    path = inside(data, *parts)
    return path if path.is_file() else None


def inside(folder: Path, *parts: str) -> Path:
    """Join the parts to the folder; a part that would lead out of it is refused."""
    for part in parts:
        for pure in (PurePosixPath(part), PureWindowsPath(part)):
            if pure.anchor or ".." in pure.parts:
                raise Misuse(f"`{part}` leads out of `{folder}`", "name a file inside the folder")
    return folder.joinpath(*parts)


def hub(path: str, config: str | None, split: str, *, layout: str) -> list[dict[str, Any]]:
    """Download one split of a data set (or read it from the cache) as a list of rows.

    No code of the data set is run. `layout` is the mirror's file that would serve as well.
    """
    try:
        from datasets import load_dataset

        # Its retries are told by the one error below.
        logging.getLogger("huggingface_hub").setLevel(logging.ERROR)
        return [dict(row) for row in load_dataset(path, config, split=split)]
    except Exception as error:  # `datasets` has no common class for what can go wrong
        name = path if config is None else f"{path}` `{config}"
        raise BenchError(
            f"no data: `{name}` ({split}) is in no mirror and cannot be had from the hub"
            f" ({reason(error)})",
            f"go online once, or give `--data FOLDER` or BENCH_DATA with `{layout}`",
        ) from error


def reason(error: Exception) -> str:
    """Return the kind of error and the start of its first line."""
    first = (str(error).splitlines() or [""])[0].strip().rstrip(".")
    short = first if len(first) <= 120 else first[:119] + "…"
    return f"{type(error).__name__}: {short}" if short else type(error).__name__
