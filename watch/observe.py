"""What has changed since the champion was made: read from files, without a model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from domainlift.errors import BenchError
from domainlift.workspace import Workspace
from engines.registry import current_digest
from ensemble.plan import Plan, read_plan
from improve.material import domain_material
from improve.versions.decision_log import Decision
from improve.versions.promised import judging_settings
from improve.versions.version import State, Version, champion_of
from improve.versions.version_files import stored_plan
from knowledge_bases.domains import load_domains
from rag.index.store import KnowledgeBaseStore
from rag.index.sync import SourceChanges, current_sources, source_changes


@dataclass(frozen=True)
class Observed:
    """Everything that a decision depends on.

    `changed` and `gone` count documents by domain, `halved` names the domains that lost most of
    theirs; `questions`, `rows` and `corrections` are new ones. `base_changed` says whether the
    model's name stands for another model now. `looked` is when the probe set was last asked,
    `promised` whether it was since the champion was promoted; `failures` looks in a row failed,
    the last at `failed`. `used` are digests of what came to nothing before, `considered` is the
    material that a loop knew last; `inputs` are for the log.
    """

    version: Version | None = None
    challenger: Version | None = None
    switched_off: str = ""
    base_changed: bool = False
    changed: Mapping[str, int] = field(default_factory=dict)
    gone: Mapping[str, float] = field(default_factory=dict)
    halved: tuple[str, ...] = ()
    questions: int = 0
    rows: int = 0
    corrections: int = 0
    promised: bool = False
    looked: datetime | None = None
    failures: int = 0
    failed: datetime | None = None
    used: frozenset[str] = frozenset()
    considered: Mapping[str, Any] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def digest(self, name: str) -> str:
        """The name of an input with 16 hexadecimal digits of it, for this champion."""
        version = self.version.name if self.version is not None else ""
        value = self.inputs.get(name)
        parts = [version, value["digest"] if name == "base" and value else value]
        digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()
        return f"{name}:{digest[:16]}"


def observe(
    workspace: Path,
    versions: Sequence[Version],
    decisions: Sequence[Decision],
    data: Path | None = None,
    switched_off: str = "",
) -> Observed:
    """Compare the workspace with its champion; nothing is written, and no model is loaded."""
    champion = champion_of(versions)
    if champion is None or switched_off:
        return Observed(champion, switched_off=switched_off)
    plan = read_plan(stored_plan(champion.plan, workspace))
    mine = [each for each in decisions if each.version == champion.name]
    tasks = tuple(judging_settings(plan, workspace).get("tasks", ()))
    material = domain_material(plan.treated, tasks, workspace)
    before = _considered(champion, mine)
    base = _base(champion, decisions)
    documents, notes = _documents(plan, workspace, data)
    looks = [each for each in decisions if each.probe and each.probe.version == champion.name]
    failed = [each.when for each in decisions if each.error]
    return Observed(
        version=champion,
        challenger=_on_trial(versions, champion),
        base_changed=not _same_base(champion.digest, base["digest"]),
        changed={name: len(c.added) + len(c.changed) + len(c.moved) for name, c, _ in documents},
        gone={name: len(c.gone) / c.before for name, c, _ in documents if c.gone},
        halved=tuple(name for name, c, _ in documents if c.halved),
        questions=_new("questions", before, material),
        rows=_new("rows", before, material),
        corrections=_new("accepted", before, material),
        promised=any(each.probe.kind == "promised" for each in looks if each.probe),
        looked=datetime.fromisoformat(looks[-1].when) if looks else None,
        failures=decisions[-1].failures if decisions else 0,
        failed=datetime.fromisoformat(failed[-1]) if failed else None,
        used=frozenset(digest for each in decisions for digest in each.consumed),
        considered=before,
        inputs={
            "base": base,
            "material": material,
            "documents": {name: digest for name, _, digest in documents},
            "plan": champion.content,
        },
        notes=tuple(notes),
    )


def _on_trial(versions: Sequence[Version], champion: Version) -> Version | None:
    found = [v for v in versions if v.state is State.CHALLENGER and v.model == champion.model]
    return found[-1] if found else None


def _considered(champion: Version, mine: Sequence[Decision]) -> Mapping[str, Any]:
    """The material that the champion was made of, or that came to nothing since."""
    for decision in reversed(mine):
        if any(each.startswith("material:") for each in decision.consumed):
            found: Mapping[str, Any] = decision.inputs.get("material", {})
            return found
    if champion.material or not mine:
        return champion.material
    found = mine[0].inputs.get("material", {})  # adopted: what there was at the first look
    return found


def _new(kind: str, before: Mapping[str, Any], now: Mapping[str, Any]) -> int:
    """How many of a kind there are more than before; 0 without a before."""
    if not before:
        return 0
    counts = [(each.get(kind, 0), before.get(name, {}).get(kind, 0)) for name, each in now.items()]
    return sum(max(0, new - old) for new, old in counts)


def _base(champion: Version, decisions: Sequence[Decision]) -> dict[str, Any]:
    """The digest of the base model now; files that look as they did are not hashed again."""
    stamp = _stamp(Path(champion.model))
    for decision in reversed(decisions):
        known = decision.inputs.get("base", {})
        if stamp and (known.get("model"), known.get("stamp")) == (champion.model, stamp):
            return dict(known)
    return {"model": champion.model, "stamp": stamp, "digest": current_digest(champion.model)}


def _stamp(path: Path) -> str:
    """A digest of the names, sizes and times of a model's files; "" where it is no path."""
    if not path.exists():
        return ""
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    rows = [(file.name, (s := file.stat()).st_size, s.st_mtime_ns) for file in files]
    return hashlib.sha256(repr(rows).encode()).hexdigest()[:16]


def _same_base(wanted: str, now: str | None) -> bool:
    """Whether a digest is the wanted one, as far as both tell; older plans name the weights."""
    if now is None:
        return True
    return wanted == (now if "+" in wanted else now.partition("+")[0])


def _documents(
    plan: Plan, workspace: Path, data: Path | None
) -> tuple[list[tuple[str, SourceChanges, str]], list[str]]:
    """By domain, what became of the documents of the champion's generation, and their digest."""
    store, found, notes = KnowledgeBaseStore(Workspace(workspace).knowledge_bases), [], []
    domains = load_domains(workspace)
    for name, treatment in plan.domains.items():
        if not treatment.uses_passages:
            continue
        try:
            with store.open(name, treatment.knowledge_base) as generation:
                manifest = generation.manifest
            files, record = current_sources(name, domains, workspace, data)
        except BenchError as error:
            notes.append(f"documents of {name}: {error.what}")
            continue
        keys = sorted((file.label, file.sha256) for file in files.files)
        digest = hashlib.sha256(repr(keys).encode()).hexdigest()[:16]
        found.append((name, source_changes(manifest, files.files, record.refused), digest))
    return found, notes
