"""Published data: splits of a data set from a local mirror in the authors' layout, or the hub."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.tasks.base import NotAtHand
from domainlift.errors import BenchError, Malformed, Misuse
from domainlift.files import leads_out
from domainlift.hub_datasets import hub_rows
from domainlift.row_files import cells, file_rows

T = TypeVar("T")


@dataclass(frozen=True)
class PublishedSplit:
    """One split of a data set: its place on the hub, and the mirror's file that holds the same."""

    hub: str
    config: str | None
    split: str
    file: str


def published_rows(
    source: PublishedSplit,
    data: Path | None,
    *,
    from_hub: Callable[[dict[str, Any]], T],
    from_mirror: Callable[[Any], T],
) -> Iterator[T]:
    """Yield what the readers make of the split's rows: objects, or the cells of a CSV mirror.

    A reader's ValueError becomes Malformed, with the row's place.
    """
    path = mirror_file(data, source.file)
    if path is None:
        rows = hub_split(source.hub, source.config, source.split, layout=source.file)
        return _read(Path(source.hub), enumerate(rows, start=1), from_hub)
    if path.suffix == ".csv":
        return _read(path, cells(path), from_mirror)
    return _read(path, ((row.line, row.fields) for row in file_rows(path)), from_mirror)


def _read(path: Path, rows: Iterator[tuple[int, Any]], reader: Callable[[Any], T]) -> Iterator[T]:
    line = 0
    for line, row in rows:
        try:
            yield reader(row)
        except ValueError as error:
            raise Malformed(path, str(error), line=line) from None
    if not line:
        raise Malformed(path, "is empty")


def mirror_file(data: Path | None, *parts: str) -> Path | None:
    """Return the file of the mirror, or None where there is no mirror or no such file in it."""
    if data is None:
        return None
    path = mirror_path(data, *parts)
    return path if path.is_file() else None


def mirror_path(folder: Path, *parts: str) -> Path:
    """Join the parts to the folder; a part that would lead out of it is refused."""
    for part in parts:
        if leads_out(part):
            raise Misuse(f"`{part}` leads out of `{folder}`", "name a file inside the folder")
    return folder.joinpath(*parts)


def hub_split(path: str, config: str | None, split: str, *, layout: str) -> list[dict[str, Any]]:
    """Download one split of a data set (or read it from the cache) as a list of rows.

    `layout` is the mirror's file that would serve as well.
    """
    try:
        return [dict(row) for row in hub_rows(path, config, split)]
    except BenchError as error:
        raise NotAtHand(
            f"no data: {error.what}, and is in no mirror",
            f"go online once, or give `--data FOLDER` or BENCH_DATA with `{layout}`",
        ) from error
