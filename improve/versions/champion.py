"""The champion of a workspace: the plan that is served, and what its loop promoted."""

from __future__ import annotations

import shlex
from pathlib import Path

from benchmarks.held_out.gate import GateVerdict
from benchmarks.results.improve_result import ImproveResult
from domainlift.errors import BenchError
from domainlift.workspace import Workspace
from improve.versions.version import State, Version
from improve.versions.version_log import VersionRegistry, plan_files

#: Who promotes: the loop, the watch, or a person.
IMPROVE, WATCH, PERSON = "improve", "watch", "person"


def champion_plan(workspace: Path, model: str | None = None) -> Path:
    """The plan that is served, for any model or this one; BenchError without any."""
    registry = VersionRegistry(workspace)
    champion = registry.champion(model)
    if champion is None:
        whose = "" if model is None else f" for `{model}`"
        make = "bench improve" if model is None else f"bench improve --model {shlex.quote(model)}"
        raise BenchError(
            f"no plan{whose} in `{Workspace(workspace).plans}` was promoted",
            f"make one: `{make}`, or `bench demo` on built-in documents",
        )
    return registry.plan(champion)


def champion_stamp(workspace: Path) -> frozenset[tuple[str, int, int]]:
    """What changes when another version becomes champion: names, times and sizes of files."""
    registry, stamps = VersionRegistry(workspace), set()
    for path in [registry.log] if registry.kept else plan_files(workspace):
        try:
            found = path.stat()
        except OSError:  # removed in the meantime
            continue
        stamps.add((path.name, found.st_mtime_ns, found.st_size))
    return frozenset(stamps)


def register_result(
    workspace: Path, result: ImproveResult, *, challenger: bool = False
) -> Version | None:
    """Make the plan that the gate promoted a version: champion, or challenger where a watch asks.

    None where nothing was promoted.
    """
    if result.plan is None or result.proof is None:
        return None
    if result.proof.promotion.word is not GateVerdict.PROMOTED:
        return None
    state = State.CHALLENGER if challenger else State.CHAMPION
    why = result.proof.promotion.why
    return VersionRegistry(workspace).register(result.plan, state, IMPROVE, why, result.report)
