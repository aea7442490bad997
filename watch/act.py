"""What a look does: sync, challenge, judge, promote, ask, and the way back."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from domainlift.activity import activity
from domainlift.errors import BenchError
from domainlift.files import sha256
from domainlift.stats.drop import SHARE, Drop, drop_level
from domainlift.stats.formatting import accuracy, p_value
from domainlift.workspace import Workspace
from ensemble.plan import Plan, read_plan, write_plan
from ensemble.router.keywords import read_keywords, write_keywords
from improve.route import refresh_sentences
from improve.versions.champion import WATCH
from improve.versions.decision_log import ProbeLook
from improve.versions.version import State, Version
from improve.versions.version_files import content_digest, copy_plan, stored_plan
from improve.versions.version_log import VersionRegistry
from knowledge_bases.domains import load_domains
from rag.index.store import KnowledgeBaseStore
from rag.index.sync import current_sources, source_changes
from watch.probe import (
    ProbeAnswers,
    ask_probe,
    compare_probes,
    probe_look,
    promised_probe,
    stored_probe,
    touched_probes,
)

#: A challenger that loses to the champion at this p-value is archived, and a promoted version that
#: is worse than it promised at this one is rolled back.
WORSE, BROKEN = 0.05, 0.001
#: Runs a command of `bench` by its arguments, and returns the object that it printed.
Bench = Callable[[Sequence[str]], dict[str, Any]]
_OPTIONS = {"--workspace", "--json", "--challenger"}


@dataclass(frozen=True)
class Result:
    """How an action ended: a word for the decision, why, and what it looked at."""

    decision: str
    reason: str
    challenger: str | None = None
    probe: ProbeLook | None = None


@dataclass(frozen=True)
class Acting:
    """The workspace that is acted in, its champion, and the earlier looks at its probe set.

    `considered` is the material that the last loop knew.
    """

    workspace: Path
    champion: Version
    looks: Sequence[ProbeLook]
    bench: Bench
    data: Path | None = None
    considered: Mapping[str, Any] = field(default_factory=dict)

    @property
    def registry(self) -> VersionRegistry:
        """The versions."""
        return VersionRegistry(self.workspace)


def run_bench(arguments: Sequence[str]) -> dict[str, Any]:
    """Run a command in a process of its own; BenchError with its last line where it fails."""
    command = [sys.executable, "-m", "bench", *arguments, "--json"]
    with activity(""):  # the command tells what it does
        done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=False)  # noqa: S603
    if done.returncode:
        raise BenchError(
            f"`{shlex.join(['bench', *arguments])}` ended with {done.returncode}",
            "its own line above says why",
        )
    found: dict[str, Any] = json.loads(done.stdout)
    return found


def challenge(acting: Acting) -> Result:
    """Improve once more as the champion was made, and judge what the gate promotes."""
    said = acting.bench([*_arguments(acting.champion), *_workspace(acting), "--challenger"])
    found = [v for v in acting.registry.versions() if v.state is State.CHALLENGER]
    mine = [v for v in found if v.model == acting.champion.model]
    if said["verdict"] != "promoted":
        return Result("reject", f"nothing better was found: {said['verdict']}: {said['why']}")
    if not mine:
        return Result("reject", "the loop found what is served already, or is in quarantine")
    return judge(acting, mine[-1])


def judge(acting: Acting, challenger: Version) -> Result:
    """Promote a challenger that the gate passed, unless it loses to the champion."""
    plans = [stored_plan(each.plan, acting.workspace) for each in (acting.champion, challenger)]
    before, after = (promised_probe(plan, acting.workspace) for plan in plans)
    after = replace(after, run=challenger.evidence.candidate)
    if set(before.right) & set(after.right):
        drop = compare_probes(before, [after], acting.workspace, WORSE)
        if is_worse(drop):
            return _archive(acting, challenger, f"worse than the champion: {_told(drop)}")
        why = f"passed the gate, and not worse than `{acting.champion.name}`: {_told(drop)}"
    else:
        why = f"passed the gate; no question was asked of `{acting.champion.name}` as well"
    return promote(acting, challenger, why)


def promote(acting: Acting, challenger: Version, why: str) -> Result:
    """Serve a challenger, and ask the probe set through it at once."""
    now = acting.registry.move(challenger.name, State.CHAMPION, WATCH, why)
    kept = check_promise(replace(acting, champion=now, looks=()))
    if kept.decision == "rollback":
        return kept
    return Result("promote", why, challenger.name, kept.probe)


def check_promise(acting: Acting) -> Result:
    """Ask the probe set through the champion; one that breaks its promise is rolled back."""
    champion = acting.champion
    plan = acting.registry.plan(champion)
    promised, asked = promised_probe(plan, acting.workspace), _ask(acting, plan)
    drop = compare_probes(promised, [asked], acting.workspace, BROKEN)
    look = probe_look("promised", champion.name, asked, drop, acting.workspace)
    if not drop.seen:
        return Result("nothing", f"`{champion.name}` keeps its promise: {_told(drop)}", None, look)
    return _roll_back(acting, f"worse than promised: {_told(drop)}", look)


def look_again(acting: Acting, days: float) -> Result:
    """Ask the probe set through the champion again, and test for a drop.

    A version that drops is rolled back where the one before answers better now.
    """
    first = max(i for i, look in enumerate(acting.looks) if look.kind == "promised")
    plan = acting.registry.plan(acting.champion)
    asked = _ask(acting, plan)
    before, *looks = (stored_probe(look.run, acting.workspace) for look in acting.looks[first:])
    drop = compare_probes(before, [*looks, asked], acting.workspace, drop_level(days))
    look = probe_look("again", acting.champion.name, asked, drop, acting.workspace)
    if not drop.seen:
        return Result("nothing", f"no drop is shown: {_told(drop)}", None, look)
    why = f"below {SHARE:.0%} of what it answered when it was promoted: {_told(drop)}"
    try:
        former = acting.registry.former(acting.champion)
        again = ask_probe(acting.registry.plan(former), plan, acting.workspace, acting.data)
    except BenchError as error:
        return Result("challenge", f"{why}; {error.what}", None, look)
    if is_worse(compare_probes(again, [asked], acting.workspace, WORSE)):
        return _roll_back(acting, why, look)
    return Result("challenge", f"{why}; `{former.name}` is no better now", None, look)


def sync_documents(acting: Acting, domains: Sequence[str]) -> Result:
    """Bring knowledge bases up to date, and serve them where the probe set does not lose by it.

    Probe questions whose answer stands in a changed document are left out: it may be another one.
    """
    plan = read_plan(acting.registry.plan(acting.champion))
    labels = {domain: _changed_labels(acting, plan, domain) for domain in domains}
    store = KnowledgeBaseStore(Workspace(acting.workspace).knowledge_bases)
    made = dict(plan.domains)
    for domain in domains:
        acting.bench(["kb", "sync", domain, *_workspace(acting)])
        generation = store.manifest(domain).generation
        made[domain] = replace(made[domain], knowledge_base=generation)
    candidate = replace(plan, domains=made)
    if content_digest(candidate) == acting.champion.content:
        return Result("reject", "the documents that changed hold no other text")
    judged = stored_plan(acting.champion.plan, acting.workspace)
    path = _draft(acting, candidate)
    asked = ask_probe(path, judged, acting.workspace, acting.data)
    first = [look.run for look in acting.looks if look.kind == "promised"]
    before = stored_probe(first[-1], acting.workspace)
    touched = touched_probes(judged, labels, acting.workspace)
    drop = compare_probes(before, [asked], acting.workspace, WORSE, touched)
    worse = is_worse(drop)
    path = _draft(acting, candidate, asked, "rejected" if worse else "promoted")
    told = f"{_told(drop)}; {len(touched)} questions whose documents changed left out"
    version = acting.registry.register(
        path, State.CHALLENGER, WATCH, f"documents: {told}", material=acting.considered
    )
    if version.state is not State.CHALLENGER:
        return Result("reject", f"it serves what `{version.name}` does: {version.state.value}")
    if worse:
        return _archive(acting, version, f"worse with the new documents: {told}")
    done = promote(acting, version, f"documents changed: {told}")
    return done if done.decision == "rollback" else replace(done, decision="sync", reason=told)


def is_worse(drop: Drop) -> bool:
    """Whether a challenger loses: clearly by the test, or below the share that matters."""
    return drop.p <= drop.level or drop.ratio < SHARE


def _changed_labels(acting: Acting, plan: Plan, domain: str) -> set[str]:
    store = KnowledgeBaseStore(Workspace(acting.workspace).knowledge_bases)
    with store.open(domain, plan.domains[domain].knowledge_base) as generation:
        manifest = generation.manifest
    domains = load_domains(acting.workspace)
    found, record = current_sources(domain, domains, acting.workspace, acting.data)
    changes = source_changes(manifest, found.files, record.refused)
    return {*changes.changed, *changes.gone, *changes.moved}


def _draft(
    acting: Acting, plan: Plan, asked: ProbeAnswers | None = None, verdict: str = ""
) -> Path:
    """A plan with the champion's router, in the watch's folder, where the next draft replaces it.

    The router knows the sentences of the documents as they are now. With what was `asked`, its
    evidence is that.
    """
    folder = Workspace(acting.workspace).watch / "draft"
    shutil.rmtree(folder, ignore_errors=True)
    path = copy_plan(stored_plan(acting.champion.plan, acting.workspace), folder)
    if asked is not None:
        told = {"baseline": asked.base, "candidate": asked.run}
        judged = {
            name: replace(each, evidence={**each.evidence, **told})
            for name, each in plan.domains.items()
        }
        plan = replace(plan, domains=judged, verdict=verdict)
    router = folder / plan.router
    write_keywords(router, refresh_sentences(read_keywords(router), acting.workspace))
    write_plan(path, replace(plan, router_sha256=sha256(router)))
    return path


def _ask(acting: Acting, plan: Path) -> ProbeAnswers:
    return ask_probe(plan, plan, acting.workspace, acting.data)


def _archive(acting: Acting, challenger: Version, why: str) -> Result:
    acting.registry.move(challenger.name, State.ARCHIVED, WATCH, why)
    return Result("reject", f"`{challenger.name}`: {why}", challenger.name)


def _roll_back(acting: Acting, why: str, look: ProbeLook) -> Result:
    """Serve the version before; where there is none, the champion stays, and the line says so."""
    bad = acting.champion
    try:
        former = acting.registry.former(bad)
    except BenchError as error:
        return Result("nothing", f"`{bad.name}` is {why}; {error.what}", None, look)
    acting.registry.move(former.name, State.CHAMPION, WATCH, why, State.QUARANTINED)
    return Result("rollback", f"`{bad.name}` is {why}: `{former.name}` again", bad.name, look)


def _arguments(champion: Version) -> list[str]:
    """The arguments of the command that made a version, but for those that the watch gives."""
    words = shlex.split(champion.command)[1:]
    if not words or words[0] not in ("improve", "demo"):
        hint = "repeat its `bench improve` once, and the watch repeats that"
        raise BenchError(f"how `{champion.name}` was made is not known", hint)
    kept, skip = [], False
    for word in words:
        name = word.partition("=")[0]
        if not skip and name not in _OPTIONS:
            kept.append(word)
        skip = not skip and word == "--workspace"
    return kept


def _workspace(acting: Acting) -> list[str]:
    data = ["--data", str(acting.data)] if acting.data is not None else []
    return ["--workspace", str(acting.workspace), *data]


def _told(drop: Drop) -> str:
    share = f"{accuracy(drop.accuracy)} of {drop.n}, before {accuracy(drop.baseline)}"
    return f"{share}, p {p_value(drop.p)}"
