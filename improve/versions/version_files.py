"""Files of a version: copied or pinned, hashed, and compared with what was registered."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from domainlift.errors import BenchError, Malformed
from domainlift.files import atomic_folder, safe_join, sha256
from domainlift.workspace import Workspace
from ensemble.plan import Plan, plan_data, read_plan
from ensemble.router.keywords import files_beside, read_keywords
from finetune.adapters.registry import AdapterRegistry
from rag.index.store import KnowledgeBaseStore


def content_digest(plan: Plan) -> str:
    """16 hexadecimal digits of what a plan does to questions, whenever and however it was judged.

    Two plans with one digest serve the same.
    """
    bare = {name: replace(each, evidence={}) for name, each in plan.domains.items()}
    data = plan_data(replace(plan, domains=bare, created="", verdict="", router=""))
    return hashlib.sha256(json.dumps(data, sort_keys=True).encode()).hexdigest()[:16]


def stored_plan(plan: str, workspace: Path) -> Path:
    """The file of a plan that a log names; BenchError where the name leads out of the workspace."""
    return safe_join(workspace, plan)


def copy_plan(path: Path, target: Path) -> Path:
    """Copy a plan and the router beside it into a new folder, where nobody writes any more."""
    plan = read_plan(path)
    router = safe_join(path.parent, plan.router) if plan.router else None
    with atomic_folder(target) as build:
        shutil.copyfile(path, build / path.name)
        if router is not None and router.is_file():
            shutil.copyfile(router, build / plan.router)
            for file in files_beside(router, read_keywords(router)):
                shutil.copyfile(file, build / file.name)
    return target / path.name


def pin_knowledge_bases(plan: Plan, workspace: Path) -> None:
    """Keep the generations that a plan searches; one that is gone already stays so."""
    store = KnowledgeBaseStore(Workspace(workspace).knowledge_bases)
    for domain, generation in _generations(plan):
        with suppress(BenchError):
            store.pin(domain, generation)


def unpin_knowledge_bases(plan: Plan, kept: Iterator[Plan], workspace: Path) -> None:
    """Let the generations go that only this plan searches."""
    needed = {each for other in kept for each in _generations(other)}
    store = KnowledgeBaseStore(Workspace(workspace).knowledge_bases)
    for domain, generation in set(_generations(plan)) - needed:
        store.unpin(domain, generation)


def hashed_files(plan_path: Path, workspace: Path) -> dict[str, str]:
    """The SHA-256 of each file that a plan is served from, by its path in the workspace."""
    paths = [*sorted(plan_path.parent.iterdir()), *_referred(read_plan(plan_path), workspace)]
    return {path.relative_to(workspace).as_posix(): sha256(path) for path in paths}


def check_version_files(files: Mapping[str, str], workspace: Path) -> None:
    """See that all files are as they were registered; Malformed names the first that is not."""
    hint = "`bench versions rollback` serves the one before"
    for name, wanted in files.items():
        path = safe_join(workspace, name)
        if not path.is_file():
            raise Malformed(path, "missing", hint=hint)
        if sha256(path) != wanted:
            raise Malformed(path, "not as it was when its version was registered", hint=hint)


def _generations(plan: Plan) -> list[tuple[str, str]]:
    return [
        (domain, each.knowledge_base)
        for domain, each in plan.domains.items()
        if each.uses_passages and each.knowledge_base
    ]


def _referred(plan: Plan, workspace: Path) -> Iterator[Path]:
    """The files of the adapters and knowledge bases that a plan names, as far as they are here.

    Chroma's SQLite file is left out, because Chroma notes in it that it was opened.
    """
    store = KnowledgeBaseStore(Workspace(workspace).knowledge_bases)
    for domain, name in _generations(plan):
        with suppress(BenchError), store.open(domain, name) as generation:
            fixed = (file for file, sums in generation.manifest.files.items() if sums is not None)
            yield from (generation.folder / file for file in ("manifest.json", *fixed))
    registry = AdapterRegistry(Workspace(workspace).adapters)
    used = {each.adapter for each in plan.domains.values() if each.uses_adapter}
    # The others are a server's own.
    for name in sorted(used & set(registry.list())):
        adapter = registry.open(name)
        yield from (adapter.folder / file for file in ("card.json", *adapter.card.files))


def plan_differences(before: Plan, after: Plan) -> list[tuple[str, Any, Any]]:
    """What differs between two plans: a name, its value in the first and in the second."""
    one, two = _flat(before), _flat(after)
    keys = [*one, *(key for key in two if key not in one)]
    return [(key, one.get(key), two.get(key)) for key in keys if one.get(key) != two.get(key)]


def _flat(plan: Plan) -> dict[str, Any]:
    data = plan_data(plan)
    flat = {key: value for key, value in data.items() if key not in ("domains", "router")}
    for domain in data["domains"]:
        for key, value in domain.items():
            if isinstance(value, dict):
                flat |= {f"{domain['name']}, {key}, {inner}": of for inner, of in value.items()}
            elif key != "name":
                flat[f"{domain['name']}, {key}"] = value
    return flat
