"""Import of traces from files of others."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Container, Iterable, Iterator
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path

from domainlift.activity import activity
from domainlift.errors import Malformed, Misuse
from domainlift.fields import Problem
from domainlift.files import stays_inside
from domainlift.text.display import one_line
from traces.formats.registry import FORMATS, read_traces
from traces.secrets import masked
from traces.store import TraceStore
from traces.trace import Trace, checked_id

_ENDINGS = (".jsonl", ".json", ".ndjson", ".parquet")
_NO_ID = re.compile(r"[^A-Za-z0-9._-]+")
_LONGEST_ID = 80


@dataclass(frozen=True)
class ImportedTraces:
    """The ids of new traces, the number of those that were there already, and what was refused."""

    ids: tuple[str, ...]
    there: int
    refused: tuple[tuple[Path, Problem], ...]


def import_traces(
    store: TraceStore, path: Path, on_damaged: Callable[[Malformed], None] | None = None
) -> ImportedTraces:
    """Take over the traces of a file, or of all files of a folder.

    Misuse where there are no files. What was taken over stays when it is stopped, and is found
    again by its content. A trace of the store that cannot be read is told to `on_damaged`.
    """
    files = _files(path)
    with activity("reading the traces that are there"):
        before = {trace.id: trace_digest(trace) for trace in store.all(on_damaged, dropped=True)}
    there = set(before.values())
    ids: list[str] = []
    refused: list[tuple[Path, Problem]] = []
    known = 0
    for file, found in _found(files):
        if isinstance(found, Problem):
            refused.append((file, found))
            continue
        with activity(f"{file.name}: {len(ids) + known + 1:,} traces"):
            digest = trace_digest(found)
            if digest in there or _digest_masked(store, found.id, before) == digest:
                known += 1
            else:
                there.add(digest)
                ids.append(_add(store, found, file))
    return ImportedTraces(tuple(ids), known, tuple(refused))


def _found(files: Iterable[Path]) -> Iterator[tuple[Path, Trace | Problem]]:
    """What is found in each file; one that cannot be opened is a problem like others."""
    for file in files:
        try:
            for found in read_traces(file):
                yield file, found
        except Malformed as error:
            yield file, Problem(1, error.what.removeprefix(f"{file}: "))


def trace_digest(trace: Trace) -> str:
    """A digest of what was said and called, with which model and tools."""
    said = json.dumps([trace.model, trace.messages, trace.tools], sort_keys=True)
    return sha256(said.encode()).hexdigest()


def _files(path: Path) -> list[Path]:
    if path.is_dir():
        found = sorted(
            file
            for file in path.rglob("*")
            if file.suffix in _ENDINGS and file.is_file() and stays_inside(file, path)
        )
    else:
        found = [path] if path.exists() else []
    if not found:
        raise Misuse(f"there are no files of traces at `{path}`", f"known: {', '.join(FORMATS)}")
    return found


def _digest_masked(store: TraceStore, id_: str, before: Container[str]) -> str:
    """The digest of what an export writes of the trace that had this id before; "" for none."""
    return trace_digest(masked(store.read(id_))[0]) if id_ in before else ""


def _add(store: TraceStore, trace: Trace, file: Path) -> str:
    digest = trace_digest(trace)[:8]
    id_ = _NO_ID.sub("-", trace.id).strip("-._")[:_LONGEST_ID]
    if not id_:
        stem = _NO_ID.sub("-", file.stem).strip("-._")[:_LONGEST_ID]
        id_ = f"{stem}-{digest}" if stem else digest
    if store.path(id_).exists():
        id_ = f"{id_}-{digest}"
    store.add(replace(trace, id=checked_id(id_), task=one_line(trace.task, 1000), edited=False))
    return id_
