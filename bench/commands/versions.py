"""`bench versions`: what was served, is served, and can be served again."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.options import WORKSPACE, Json, WorkspaceOption, command_group
from domainlift.errors import BenchError, NoSuch
from domainlift.stats.formatting import accuracy
from domainlift.text.display import printable
from ensemble.plan import read_plan
from improve.versions.champion import PERSON
from improve.versions.mlflow_export import export_versions
from improve.versions.version import State, Version
from improve.versions.version_files import check_version_files, plan_differences
from improve.versions.version_log import VersionRegistry
from reports.terminal import print_json, print_note, print_table

versions = command_group("List, compare, promote and roll back the versions of what is served.")
Name = Annotated[str, typer.Argument(help="The version, from `bench versions list`.")]
Why = Annotated[str, typer.Option(help="The reason, for the log.")]


@versions.command("list")
def list_versions(workspace: WorkspaceOption = WORKSPACE, as_json: Json = False) -> None:
    """List all versions, oldest first.

    Example: bench versions list
    """
    found = _registry(workspace).versions()
    if as_json:
        print_json([version.as_json() for version in found])
        return
    cells = (
        (
            version.name,
            version.state.value,
            version.created,
            accuracy(version.evidence.accuracy),
            _interval(version),
            str(version.evidence.n),
            f"{version.last.by}: {printable(version.last.why)}",
        )
        for version in found
    )
    print_table(("version", "state", "created", "accuracy", "interval", "n", "why"), cells)


@versions.command("show")
def show_version(
    version: Name, workspace: WorkspaceOption = WORKSPACE, as_json: Json = False
) -> None:
    """Show what a version consists of, its evidence, and what became of it.

    Every file is compared with what was registered.

    Example: bench versions show v0001
    """
    registry = _registry(workspace)
    found = registry.get(version)
    intact, fault = _intact(found, workspace)
    if as_json:
        moves = [asdict(move) for move in found.moves]
        evidence = asdict(found.evidence)
        files = {"files": dict(found.files), "intact": intact, "plan": found.plan}
        told = {**found.as_json(), **files, "evidence": evidence, "history": moves}
        print_json({**told, "base": found.digest, "command": found.command})
        return
    rows = [("plan", found.plan), ("model", found.model), ("base", found.digest)]
    rows += [(key, str(value)) for key, value in asdict(found.evidence).items() if value]
    rows += [("made by", found.command)] if found.command else []
    print_table(("", found.name), ((key, printable(value)) for key, value in rows))
    cells = ((m.when, m.state.value, m.by, printable(m.why)) for m in found.moves)
    print_table(("when", "state", "by", "why"), cells)
    print_table(("SHA-256", "file"), ((sums[:16], name) for name, sums in found.files.items()))
    if fault:
        print_note(fault)


@versions.command("diff")
def diff_versions(
    before: Name, after: Name, workspace: WorkspaceOption = WORKSPACE, as_json: Json = False
) -> None:
    """Show what differs between two versions.

    Example: bench versions diff v0001 v0002
    """
    registry = _registry(workspace)
    one, two = registry.get(before), registry.get(after)
    plans = [read_plan(registry.plan(each)) for each in (one, two)]
    rows: list[tuple[str, Any, Any]] = plan_differences(*plans)
    measured = [(key, getattr(one.evidence, key), getattr(two.evidence, key)) for key in _MEASURED]
    rows += [row for row in measured if row[1] != row[2]]
    if as_json:
        print_json([{"what": key, "before": a, "after": b} for key, a, b in rows])
        return
    shown = ((key, *("-" if x is None else printable(str(x)) for x in both)) for key, *both in rows)
    print_table(("", one.name, two.name), shown)


@versions.command("promote")
def promote_version(
    version: Annotated[str, typer.Argument(help="A version, or the file of a plan.")],
    why: Why = "a person decided",
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Serve a version from now on; the one before is archived.

    Every file of it is compared with what was registered before that.

    Example: bench versions promote v0001
    """
    registry = _registry(workspace)
    if Path(version).is_file():
        version = registry.register(Path(version), State.CHALLENGER, PERSON, why).name
    before = registry.champion(registry.get(version).model)
    _tell(registry.move(version, State.CHAMPION, PERSON, why), before, as_json=as_json)


@versions.command("rollback")
def rollback(
    to: Annotated[
        str | None, typer.Option(help="The version to serve. [default: the one before]")
    ] = None,
    model: Annotated[
        str | None, typer.Option("--model", "-m", help="Whose champion, where there are several.")
    ] = None,
    why: Why = "a person rolled back",
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Serve the version before again, exactly its files; what is served now is quarantined.

    A version in quarantine comes back by `bench versions promote` alone.

    Example: bench versions rollback
    """
    registry = _registry(workspace)
    champion = registry.champion(model)
    if champion is None:
        raise BenchError("no version is served", "make one: `bench improve`")
    wanted = registry.get(to) if to is not None else registry.former(champion)
    if wanted.name == champion.name:
        raise BenchError(f"version `{wanted.name}` is served already", "`bench versions list`")
    now = registry.move(wanted.name, State.CHAMPION, PERSON, why, State.QUARANTINED)
    _tell(now, champion, as_json=as_json)


@versions.command("rm")
def remove_version(
    version: Annotated[list[str], typer.Argument(help="Versions that are not served.")],
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Drop versions for good; the knowledge bases that only they need go with the next build.

    Example: bench versions rm v0001
    """
    registry = _registry(workspace)
    for name in version:
        registry.remove(name)
        print(f"removed `{name}`")


@versions.command("export")
def export_version(
    to: Annotated[str, typer.Option(help="mlflow.")] = "mlflow",
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Copy all versions but quarantined ones to MLflow, their states as aliases.

    What is there already is not copied again. MLFLOW_TRACKING_URI says where the registry is.

    Example: bench versions export
    """
    if to != "mlflow":
        raise NoSuch("registry", to, ("mlflow",))
    found = _registry(workspace).versions()
    made = export_versions([v for v in found if v.state is not State.QUARANTINED], workspace)
    if as_json:
        print_json(made)
        return
    print_table(("version", "in MLflow"), made.items())


_MEASURED = ("accuracy", "interval", "n")


def _registry(workspace: Path) -> VersionRegistry:
    registry = VersionRegistry(workspace)
    registry.adopt()
    return registry


def _interval(version: Version) -> str:
    of = version.evidence.interval
    return "-" if of is None else f"[{accuracy(of[0])}, {accuracy(of[1])}]"


def _intact(version: Version, workspace: Path) -> tuple[bool, str]:
    try:
        check_version_files(version.files, workspace)
    except BenchError as error:
        return False, error.what
    return True, ""


def _tell(now: Version, before: Version | None, *, as_json: bool) -> None:
    if as_json:
        was = before.name if before is not None else None
        print_json({**now.as_json(), "before": was})
        return
    was = f", `{before.name}` was served before" if before is not None else ""
    print(f"`{now.name}` is served now{was}")
