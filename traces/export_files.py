"""Export of traces to files of others' forms, with secrets masked."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from domainlift.activity import activity
from domainlift.errors import Misuse
from domainlift.files import write_text
from domainlift.registry import load_object
from traces.formats.registry import FORMATS
from traces.secrets import masked
from traces.trace import Json, Trace


@dataclass(frozen=True)
class ExportedTraces:
    """The number of traces, the files, and the number of masked secrets by kind."""

    traces: int
    files: tuple[Path, ...]
    masked: Counter[str]


def export_traces(
    traces: Sequence[Trace], path: Path, format_: str, *, force: bool = False
) -> ExportedTraces:
    """Write traces to a file, or to a folder where the format has a file for each.

    Misuse where there is something already, unless `force` lets it be replaced.
    """
    if not traces:
        raise Misuse("no trace was chosen", "bench trace list")
    if path.exists() and not force:
        raise Misuse(f"`{path}` exists already", "`--force` writes over it")
    if path.exists() and path.is_dir() != FORMATS[format_].is_file:
        raise Misuse(f"`{path}` is {'a folder' if path.is_dir() else 'no folder'}", "name another")
    write: Callable[[Trace], Iterable[Json]] = load_object(FORMATS[format_].write)
    counts: Counter[str] = Counter()
    files = (
        {path / f"{trace.id}.jsonl": [trace] for trace in traces}
        if FORMATS[format_].is_file
        else {path: list(traces)}
    )
    for file, held in files.items():
        write_text(file, "".join(_lines(held, write, counts)))
    return ExportedTraces(len(traces), tuple(files), counts)


def _lines(
    traces: Iterable[Trace], write: Callable[[Trace], Iterable[Json]], counts: Counter[str]
) -> Iterator[str]:
    for number, trace in enumerate(traces, 1):
        with activity(f"masking trace {number:,}"):
            clean, found = masked(trace)
        counts.update(found)
        yield from (json.dumps(row, ensure_ascii=False) + "\n" for row in write(clean))
