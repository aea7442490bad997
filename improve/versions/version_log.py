"""Registry of versions: an append-only log of events, and a folder of files for each version.

<workspace>/versions/log.jsonl   one line for each event; the states are what a replay gives
<workspace>/versions/v0001/      the version's plan and router; never written again

A version is registered in this order: its knowledge bases are pinned, its files copied, its line
written. A kill in between leaves a folder that no line names, which the next one removes. A
workspace without a log has the plans that were promoted; they are registered with its first line.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from domainlift.errors import BenchError, Malformed, NoSuch
from domainlift.files import exclusive_lock, timestamp, write_text
from domainlift.jsonl import AppendLog, json_lines, read_log
from domainlift.workspace import Workspace
from ensemble.plan import Plan, read_plan
from improve.material import domain_material
from improve.versions.promised import judging_settings, plan_evidence
from improve.versions.version import (
    Event,
    Evidence,
    State,
    Version,
    champion_of,
    made_of,
    read_event,
    replay,
)
from improve.versions.version_files import (
    check_version_files,
    content_digest,
    copy_plan,
    hashed_files,
    pin_knowledge_bases,
    stored_plan,
    unpin_knowledge_bases,
)

#: Who registered what an older workspace had.
ADOPTED = "adopted"
_SEE, _PATIENCE = "bench versions list", 30.0
_HINT = "restore the line; `bench versions list` reads it again"


class VersionRegistry:
    """The versions of a workspace; reading creates nothing."""

    def __init__(self, workspace: Path) -> None:
        self.workspace = workspace
        self.root = Workspace(workspace).versions
        self.log = self.root / "log.jsonl"

    @property
    def kept(self) -> bool:
        """Whether the log has begun."""
        try:
            with self.log.open("rb") as file:
                return file.readline().endswith(b"\n")
        except FileNotFoundError:
            return False

    def versions(self) -> list[Version]:
        """All versions, oldest first; Malformed where a line of the log is none.

        Without a log they are the plans that were promoted.
        """
        if not self.kept:
            return list(replay(self._adoptable()).values())
        return self._logged()

    def adopt(self) -> None:
        """Register what an older workspace had promoted, where that is not done."""
        if not self.kept and self.versions():
            with self._writing():
                pass

    def get(self, name: str) -> Version:
        """The version of a name; NoSuch with the nearest one otherwise."""
        found = {version.name: version for version in self.versions()}
        if name not in found:
            raise NoSuch("version", name, found, _SEE)
        return found[name]

    def champion(self, model: str | None = None) -> Version | None:
        """The champion of a model, or of any: the last that became it; None where there is none."""
        return champion_of(self.versions(), model)

    def plan(self, version: Version) -> Path:
        """The file of a version's plan; Malformed where it or its router is not as registered."""
        path = stored_plan(version.plan, self.workspace)
        folder = Path(version.plan).parent
        own = {name: sums for name, sums in version.files.items() if Path(name).parent == folder}
        check_version_files(own, self.workspace)
        return path

    def register(
        self,
        plan: Path,
        state: State,
        by: str,
        why: str,
        report: Path | None = None,
        *,
        material: Mapping[str, Any] | None = None,
    ) -> Version:
        """Make a plan a version, or find the one that serves the same; it gets the state.

        One that is quarantined stays so, unless a person names it. `material` is what its loop
        knew, where that is not what there is now.
        """
        made = read_plan(plan)
        content = content_digest(made)
        with self._writing(content) as log:
            for known in self._logged():
                if known.content == content:
                    return self._again(log, known, state, by, why)
            evidence = plan_evidence(made, self.workspace, report)
            version = self._stored(self._next(), plan, made, evidence)
            if material is not None:
                version = replace(version, material=material)
            log.append(Event(version.name, timestamp(), by, why, state, made_of(version)).row())
        return self.get(version.name)

    def move(
        self, name: str, state: State, by: str, why: str, former: State = State.ARCHIVED
    ) -> Version:
        """Change a version's state; its files are checked before it becomes champion."""
        with self._writing() as log:
            version = self.get(name)
            if state is State.CHAMPION:
                check_version_files(version.files, self.workspace)
            log.append(Event(version.name, timestamp(), by, why, state, former=former).row())
        return self.get(name)

    def check_unused(self, folder: Path) -> None:
        """Raise BenchError where a version consists of files in this folder."""
        inside = folder.relative_to(self.workspace).as_posix() + "/"
        users = [v.name for v in self.versions() if any(f.startswith(inside) for f in v.files)]
        if users:
            what = f"`{inside[:-1]}` belongs to {', '.join(f'`{name}`' for name in users)}"
            raise BenchError(what, f"drop it first: `bench versions rm {users[0]}`")

    def former(self, version: Version) -> Version:
        """The version that a rollback serves: the last one before that was served and not bad."""
        served = [
            each
            for each in self.versions()
            if each.model == version.model and each.number < version.number
            if each.state is State.ARCHIVED and each.turn
        ]
        if not served:
            raise BenchError(
                f"no version before `{version.name}` was served",
                "`bench versions promote VERSION` serves another one of `bench versions list`",
            )
        return served[-1]

    def remove(self, name: str) -> None:
        """Drop a version and its files; its knowledge bases go with the next build."""
        with self._writing() as log:
            version = self.get(name)
            if version.state is State.CHAMPION:
                hint = "`bench versions rollback` serves another one"
                raise BenchError(f"version `{name}` is served", hint)
            log.append(Event(name, timestamp(), "person", "removed").row())
            plan = stored_plan(version.plan, self.workspace)
            with_plans = (stored_plan(each.plan, self.workspace) for each in self.versions())
            kept = (read_plan(path) for path in with_plans if path.is_file())
            if plan.is_file():
                unpin_knowledge_bases(read_plan(plan), kept, self.workspace)
            shutil.rmtree(self.root / name, ignore_errors=True)

    @contextmanager
    def _writing(self, content: str = "") -> Iterator[AppendLog]:
        """Be the only writer, with what an older workspace had in the log, but for `content`."""
        what = "the log of versions"
        with exclusive_lock(self.root / "log.lock", what, "repeat the command", wait=_PATIENCE):
            known = {version.name for version in self._logged()}
            for folder in self.root.glob("v[0-9]*"):
                if folder.name not in known:
                    shutil.rmtree(folder, ignore_errors=True)
            if not self.kept:
                self._adopt(content)
            log = AppendLog(self.log, fsync=True)
            with log.writing():
                yield log

    def _again(self, log: AppendLog, known: Version, state: State, by: str, why: str) -> Version:
        if known.state in (State.CHAMPION, State.QUARANTINED, state):
            return known
        log.append(Event(known.name, timestamp(), by, why, state).row())
        return self.get(known.name)

    def _stored(self, name: str, plan: Path, made: Plan, evidence: Evidence) -> Version:
        """Pin, copy and hash what a version consists of."""
        settings = judging_settings(made, self.workspace)
        tasks = tuple(settings.get("tasks", ()))
        pin_knowledge_bases(made, self.workspace)
        copied = copy_plan(plan, self.root / name)
        return replace(
            _described(name, plan, made, evidence),
            command=str(settings.get("command", "")),
            material=domain_material(made.treated, tasks, self.workspace),
            plan=copied.relative_to(self.workspace).as_posix(),
            files=hashed_files(copied, self.workspace),
        )

    def _logged(self) -> list[Version]:
        return list(replay(read_log(self.log, read_event, "not an event", _HINT)).values())

    def _next(self) -> str:
        """The name after the highest that was ever given away."""
        events = read_log(self.log, read_event, "not an event", _HINT)
        return f"v{max((int(event.version[1:]) for event in events), default=0) + 1:04d}"

    def _adopt(self, content: str) -> None:
        """Begin the log, in one step, with the promoted plans of a workspace that has none."""
        rows: list[dict[str, Any]] = []
        for event in self._adoptable():
            if event.made["content"] == content:
                continue
            path = stored_plan(str(event.made["plan"]), self.workspace)
            made = read_plan(path)
            evidence = plan_evidence(made, self.workspace)
            version = self._stored(f"v{len(rows) + 1:04d}", path, made, evidence)
            version = replace(version, created=event.when)
            rows.append(replace(event, version=version.name, made=made_of(version)).row())
        if rows:
            write_text(self.log, json_lines(rows))

    def _adoptable(self) -> Iterator[Event]:
        """What the promoted plans would be: a version each, and the last one champion."""
        plans = []
        for path in plan_files(self.workspace):
            try:
                plan = read_plan(path)
            except Malformed:
                continue
            if plan.verdict == "promoted":
                plans.append((plan.created or "0", path.name, path, plan))
        for number, (created, _, path, plan) in enumerate(sorted(plans, key=lambda p: p[:2]), 1):
            name = f"v{number:04d}"
            evidence = Evidence(plan.verdict)
            made = made_of(_described(name, path, plan, evidence))
            made["plan"] = path.relative_to(self.workspace).as_posix()
            why = "it was promoted before versions were kept"
            yield Event(name, created, ADOPTED, why, State.CHAMPION, made)


def plan_files(workspace: Path) -> list[Path]:
    """The files of all plans that `bench improve` wrote, promoted or not."""
    folder = Workspace(workspace).plans
    return [p for p in sorted(folder.glob("*.yaml")) if not p.name.endswith(".routes.yaml")]


def _described(name: str, path: Path, plan: Plan, evidence: Evidence) -> Version:
    content = content_digest(plan)
    return Version(name, timestamp(), plan.model, plan.digest, path.name, content, {}, evidence)
