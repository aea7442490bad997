"""The newest plan of a workspace that was promoted."""

from __future__ import annotations

import shlex
from pathlib import Path

from domainlift.errors import BenchError, Malformed
from domainlift.workspace import Workspace
from ensemble.plan import read_plan


def newest_plan(workspace: Path, model: str | None = None) -> Path:
    """Find the plan that was promoted last, for any model or this one; BenchError without any."""
    found = [(made, path) for path in plan_files(workspace) if (made := _promoted(path, model))]
    if not found:
        whose = "" if model is None else f" for `{model}`"
        make = "bench improve" if model is None else f"bench improve --model {shlex.quote(model)}"
        raise BenchError(
            f"no plan{whose} in `{Workspace(workspace).plans}` was promoted",
            f"make one: `{make}`, or `bench demo` on built-in documents",
        )
    return max(found)[1]


def plans_stamp(workspace: Path) -> frozenset[tuple[str, int]]:
    """What changes when a plan is written or removed: names and times of the files."""
    stamps = set()
    for path in plan_files(workspace):
        try:
            stamps.add((path.name, path.stat().st_mtime_ns))
        except OSError:  # removed in the meantime
            continue
    return frozenset(stamps)


def plan_files(workspace: Path) -> list[Path]:
    """The files of all plans, promoted or not."""
    folder = Workspace(workspace).plans
    return [p for p in sorted(folder.glob("*.yaml")) if not p.name.endswith(".routes.yaml")]


def _promoted(path: Path, model: str | None) -> str:
    """When a plan was made; "" where it was not promoted, is another model's, or is none."""
    try:
        plan = read_plan(path)
    except Malformed:
        return ""
    wanted = plan.verdict == "promoted" and model in (None, plan.model)
    return (plan.created or "0") if wanted else ""
