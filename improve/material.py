"""Material of a plan's domains: the files of questions and rows that a loop learns from."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

from benchmarks.tasks.registry import file_kind
from domainlift.files import sha256
from domainlift.workspace import Workspace
from improve.feedback.marks import FeedbackStore, MarkState
from knowledge_bases.domains import BUILT_IN, load_domains

#: File in a data set that a loop made by itself, with the digests of what it was made of.
MADE_OF = "made_of.json"


def domain_material(
    domains: Collection[str], tasks: Collection[str], workspace: Path
) -> dict[str, dict[str, Any]]:
    """By file: its SHA-256, how many `questions` it has to ask, and how many `rows` to learn from.

    The files are those of the domains and of the tasks that are files. A question of the split
    `train` is one to learn from; so is every row of a data set that a person prepared. Under
    `feedback`, how many marks of replies were `accepted`.
    """
    found = {}
    for path, only_rows in _files(domains, tasks, workspace):
        lines = [line for line in path.read_bytes().splitlines() if line.strip()]
        rows = len(lines) if only_rows else sum(map(_trains, lines))
        counts = {"questions": len(lines) - rows, "rows": rows}
        found[_name(path, workspace)] = {"sha256": sha256(path), **counts}
    accepted = len(FeedbackStore(workspace).marks(MarkState.ACCEPTED))
    return found | ({"feedback": {"accepted": accepted}} if accepted else {})


def _files(
    domains: Collection[str], tasks: Collection[str], workspace: Path
) -> Iterator[tuple[Path, bool]]:
    """The files, and whether all of their lines are rows to learn from."""
    declared = load_domains(workspace)
    asked = [Path(task) for task in sorted(tasks) if file_kind(task)]
    for name in sorted(domains):
        domain = declared.get(name)
        if domain is not None:
            asked += [domain.questions_file] if domain.questions_file is not None else []
            asked += [domain.folder / task for task in domain.tasks if file_kind(task)]
        prepared = Workspace(workspace).data_set(name)
        if (prepared / "train.jsonl").is_file() and not (prepared / MADE_OF).exists():
            yield prepared / "train.jsonl", True
    yield from ((path, False) for path in dict.fromkeys(asked) if path.is_file())


def _name(path: Path, workspace: Path) -> str:
    """The path, from the workspace or the built-in domains on: both may be moved."""
    for root in (workspace.resolve(), BUILT_IN):
        if path.resolve().is_relative_to(root):
            return path.resolve().relative_to(root).as_posix()
    return str(path)


def _trains(line: bytes) -> bool:
    try:
        row = json.loads(line)
    except ValueError:
        return False
    return isinstance(row, dict) and row.get("split") == "train"
