"""Comparability of two runs: warnings and notes, one sentence each."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterator, Mapping
from typing import Any

from benchmarks.results.error_reasons import count_reasons, told_reasons
from benchmarks.results.pairing import PairedRuns
from benchmarks.runs.store import RunManifest

_Pair = tuple["RunManifest", "RunManifest"]
#: Parts of a fingerprint that are compared on purpose, or that a sentence of its own speaks of.
_COMPARED = {"model", "treatment", "questions"}
_PARTS = {
    "data": "the data differ: other examples before the questions, or another version of a task",
    "prompts": "the prompts differ: another way of scoring, examples, template or limit of replies",
    "engine": "the engine or its options differ",
}
_SHORT = {
    "data": "the data",
    "prompts": "how they were asked (way of scoring, examples, template or limit of replies)",
    "engine": "the engine or its options",
    "versions": "the versions",
}
#: Settings that say how a run came about, and decide nothing by themselves.
_SILENT = {"command", "treatment", "tasks", "limit", "domains"}
_MOST_NAMES = 8
_FILTERED = "only some domains are compared, and the p values are adjusted for those"


def warnings_of(manifests: _Pair, joined: PairedRuns) -> tuple[str, ...]:
    """Differences besides model and treatment, and missing answers; the gravest first."""
    return (
        *_questions(manifests, joined),
        *_unanswered(manifests, joined),
        *_prints(manifests),
        *_values("setting", manifests[0].settings, manifests[1].settings, _SILENT),
        *_engine(manifests),
        *_versions(manifests),
        *([_FILTERED] if joined.filtered else []),
    )


def notes_of(manifests: _Pair) -> tuple[str, ...]:
    """The notes of the engines, and whether the runs differ in model and treatment at all."""
    before, after = manifests
    same = all(
        before.fingerprint.get(part) == after.fingerprint.get(part)
        for part in ("model", "treatment")
    )
    engine_notes = [
        f"run `{manifest.run}`: {note}"
        for manifest in manifests
        for note in manifest.engine.get("notes", ())
    ]
    return (*([_repeated(manifests)] if same else []), *engine_notes)


def _repeated(manifests: _Pair) -> str:
    """What differs between two runs of one model and treatment; asking again alone is noise."""
    before, after = (manifest.fingerprint for manifest in manifests)
    differing = [part for part in _PARTS if before.get(part) != after.get(part)]
    if manifests[0].versions != manifests[1].versions:
        differing.append("versions")
    what = " and ".join(_SHORT[part] for part in differing) or "the noise of asking again"
    return f"both runs have the same model and treatment: what differs is {what}"


def _questions(manifests: _Pair, joined: PairedRuns) -> Iterator[str]:
    shared = {pair.question.domain for pair in joined.pairs}
    if sum(joined.only[0].values()) or sum(joined.only[1].values()):
        yield (
            f"the runs ask DIFFERENT QUESTIONS: {len(joined.pairs):,} are in both and compared, "
            f"{joined.only[0].total():,} are only in `{manifests[0].run}` and "
            f"{joined.only[1].total():,} only in `{manifests[1].run}`"
        )
    for manifest, only in zip(manifests, joined.only, strict=True):
        alone = {domain: count for domain, count in only.items() if domain not in shared}
        if alone:
            yield f"not compared, as only in `{manifest.run}`: {_counted(alone)}"
    if joined.altered:
        yield (
            f"{joined.altered:,} questions have the same id in both runs, but another text, "
            "options or answer; they are left out"
        )
    for manifest, twice in zip(manifests, joined.repeated, strict=True):
        if twice:
            yield f"{twice:,} questions stand more than once in `{manifest.run}`; each counts once"


def _unanswered(manifests: _Pair, joined: PairedRuns) -> Iterator[str]:
    sides = ([pair.before for pair in joined.pairs], [pair.after for pair in joined.pairs])
    for manifest, answers in zip(manifests, sides, strict=True):
        status = Counter("missing" if a is None else a.status for a in answers)
        open_ = {name: status[name] for name in ("error", "truncated", "missing") if status[name]}
        if open_:
            yield (
                f"{sum(open_.values()):,} of {len(answers):,} questions have no answer in "
                f"`{manifest.run}` ({_counted(open_)}); they are left out of both sides, and may "
                "be the hardest"
            )
            reasons = count_reasons(a.reason for a in answers if a is not None and a.reason)
            if reasons:
                yield f"errors in `{manifest.run}`: {told_reasons(reasons)}"
        elif not manifest.finished:
            yield f"run `{manifest.run}` is not finished"


def _prints(manifests: _Pair) -> Iterator[str]:
    before, after = (manifest.fingerprint for manifest in manifests)
    for part in sorted(before.keys() | after.keys()):
        if part not in _COMPARED and before.get(part) != after.get(part):
            yield _PARTS.get(part, f"the fingerprints of `{part}` differ")
    yield from _ways(*(manifest.settings.get("tasks", {}) for manifest in manifests))


def _ways(before: Mapping[str, Any], after: Mapping[str, Any]) -> Iterator[str]:
    """Tasks that are asked in another way; those that change alike stand in one sentence."""
    changed: dict[str, list[str]] = defaultdict(list)
    for task in sorted(before.keys() & after.keys()):
        if before[task] != after[task]:
            changed[f"asked as {_way(before[task])}, then as {_way(after[task])}"].append(task)
    for told, tasks in changed.items():
        few = ", ".join(f"`{task}`" for task in tasks[:_MOST_NAMES])
        more = f" and {len(tasks) - _MOST_NAMES} more" if len(tasks) > _MOST_NAMES else ""
        yield f"{few}{more}: {told}"


def _versions(manifests: _Pair) -> Iterator[str]:
    before, after = manifests
    # Another model has another size; that says nothing about how it was asked.
    silent = {"parameters"} if before.model != after.model else set()
    yield from _values("versions differ in", before.versions, after.versions, silent)


def _engine(manifests: _Pair) -> Iterator[str]:
    before, after = (dict(manifest.engine) for manifest in manifests)
    yield from _values("engine's", before, after, {"options", "notes", "digest"})
    yield from _values("engine option", before.get("options", {}), after.get("options", {}))


def _values(
    kind: str, before: Mapping[str, Any], after: Mapping[str, Any], silent: Collection[str] = ()
) -> Iterator[str]:
    for key in sorted(before.keys() | after.keys()):
        if key not in silent and before.get(key) != after.get(key):
            yield f"{kind} `{key}`: {_said(before.get(key))} → {_said(after.get(key))}"


def _said(value: Any) -> str:
    return "none" if value is None else f"`{value}`"


def _way(way: Any) -> str:
    if not isinstance(way, Mapping):
        return _said(way)
    return f"{way.get('scoring')} with {way.get('shots')} examples"


def _counted(counts: Mapping[str, int]) -> str:
    most = sorted(counts.items(), key=lambda item: -item[1])
    told = ", ".join(f"{name} {count:,}" for name, count in most[:_MOST_NAMES])
    return told + (f" and {len(most) - _MOST_NAMES} more" if len(most) > _MOST_NAMES else "")
