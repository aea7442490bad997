"""What tells a run from another one: differences of their fingerprints in words."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress

from benchmarks.runs.store import Run, RunManifest, RunStore
from domainlift.errors import Malformed
from engines.base import EngineInfo


def identity_differences(
    manifest: RunManifest, prints: Mapping[str, str], info: EngineInfo
) -> list[str]:
    """What keeps a stored run from being that of a fingerprint, a phrase each, with both named."""
    stored = manifest.fingerprint
    return [
        phrase
        for part in sorted({*stored, *prints})
        if stored.get(part) != prints.get(part)
        for phrase in _part(part, manifest, prints, info)
    ]


def similar_run(store: RunStore, run: Run, info: EngineInfo) -> str:
    """A sentence on the newest run that differs only in what answers under the same name; or ""."""
    own = run.manifest
    for name in reversed(store.ids()):
        with suppress(Malformed):
            other = store.get(name).manifest
            both = other.fingerprint, own.fingerprint
            parts = {key for key in {*both[0], *both[1]} if both[0].get(key) != both[1].get(key)}
            if other.model == own.model and parts and parts <= {"model", "engine"}:
                why = ", ".join(identity_differences(other, own.fingerprint, info))
                return f"a new run: the stored `{name}` is like it but for {why}"
    return ""


def _part(
    part: str, manifest: RunManifest, prints: Mapping[str, str], info: EngineInfo
) -> Iterator[str]:
    told = list(_engine(manifest, info)) if part == "engine" else []
    if told:
        yield from told
        return
    before, now = (_short(each.get(part, "none")) for each in (manifest.fingerprint, prints))
    if part == "model":
        yield f"model `{manifest.model}` ({before}) → `{info.model}` ({now})"
    else:
        yield f"{part} {before} → {now}"


def _engine(manifest: RunManifest, info: EngineInfo) -> Iterator[str]:
    name, stored = manifest.engine.get("name"), manifest.engine.get("options", {})
    if name != info.engine:
        yield f"engine `{name}` → `{info.engine}`"
    for key in sorted({*stored, *info.options}):
        if stored.get(key) != info.options.get(key):
            yield f"engine option {key} `{stored.get(key)}` → `{info.options.get(key)}`"


def _short(digest: str) -> str:
    """The beginnings of a digest's parts."""
    return "+".join(part[:8] for part in digest.split(":")[-1].split("+"))
