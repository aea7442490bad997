"""One look: observe, decide, act, and write down what was decided on what."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from domainlift.errors import BenchError, Interrupted
from domainlift.files import exclusive_lock, write_text
from domainlift.workspace import Workspace
from improve.versions.decision_log import Decision, DecisionLog
from improve.versions.version_log import VersionRegistry
from watch.decide import Action, Limits, NextStep, decide
from watch.observe import Observed, observe

if TYPE_CHECKING:
    from watch.act import Acting, Bench, Result


def watch_once(
    workspace: Path,
    now: datetime,
    bench: Bench | None = None,
    limits: Limits = Limits(),
    data: Path | None = None,
) -> Decision:
    """Look once; BenchError where another watch is looking.

    What an action raises as BenchError is written down as the error of the look. A look that was
    killed leaves no line, and the next one finds the same state and does the same.
    """
    begun, log = time.monotonic(), DecisionLog(workspace)
    with _alone(workspace):
        decisions = log.decisions()
        off = switched_off(workspace)
        registry = VersionRegistry(workspace)
        registry.adopt()
        seen = observe(workspace, registry.versions(), decisions, data, off)
        choice = decide(seen, now, limits)
        decision = _act(choice, seen, workspace, decisions, bench, now, data)
        decision = replace(decision, seconds=round(time.monotonic() - begun, 3))
        log.append(decision)
    return decision


def switch(workspace: Path, off: str) -> None:
    """Switch the watch off, with a reason, or on where there is none."""
    path = _switch(workspace)
    if off:
        write_text(path, off + "\n")
    else:
        path.unlink(missing_ok=True)


def switched_off(workspace: Path) -> str:
    """Why the watch is off; "" where it is on."""
    path = _switch(workspace)
    return (path.read_text(encoding="utf-8").strip() or "no reason given") if path.exists() else ""


def _act(
    choice: NextStep,
    seen: Observed,
    workspace: Path,
    decisions: list[Decision],
    bench: Bench | None,
    now: datetime,
    data: Path | None,
) -> Decision:
    told = Decision(
        when=now.isoformat(timespec="seconds"),
        decision="nothing",
        reason="; ".join((choice.reason, *seen.notes)),
        version=seen.version.name if seen.version is not None else None,
        challenger=seen.challenger.name if seen.challenger is not None else None,
        triggers=choice.triggers,
        inputs=seen.inputs,
        failures=seen.failures,
    )
    if choice.action is Action.NOTHING or seen.version is None:
        return told if choice.paused else replace(told, failures=0)
    from watch.act import Acting, run_bench

    probes = [each.probe for each in decisions if each.probe is not None]
    looks = [look for look in probes if look.version == seen.version.name]
    acting = Acting(workspace, seen.version, looks, bench if bench is not None else run_bench, data)
    try:
        done = _do(choice, seen, acting)
    except Interrupted:
        raise
    except BenchError as error:
        word = choice.action.value if choice.action.value in ("sync", "challenge") else "nothing"
        return replace(
            told,
            decision=word,
            reason=f"{told.reason}; it failed: {error.what}",
            error=error.what,
            failures=seen.failures + 1,
        )
    served = VersionRegistry(workspace).champion(seen.version.model)
    return replace(
        told,
        decision=done.decision,
        reason=f"{told.reason}; {done.reason}",
        version=served.name if served is not None else None,
        challenger=done.challenger,
        probe=done.probe,
        consumed=choice.uses,
        failures=seen.failures if choice.paused else 0,
    )


def _do(choice: NextStep, seen: Observed, acting: Acting) -> Result:
    from watch import act

    if choice.action is Action.SYNC:
        return act.sync_documents(acting, [name for name, count in seen.changed.items() if count])
    if choice.action is Action.CHALLENGE:
        return act.challenge(acting)
    if choice.action is Action.JUDGE and seen.challenger is not None:
        return act.judge(acting, seen.challenger)
    if choice.action is Action.PROMISE:
        return act.check_promise(acting)
    return act.look_again(acting, choice.triggers["age"].score)


@contextmanager
def _alone(workspace: Path) -> Iterator[None]:
    lock = Workspace(workspace).watch / "watch.lock"
    with exclusive_lock(lock, "the watch", "it looks already; the next look finds what is left"):
        yield


def _switch(workspace: Path) -> Path:
    return Workspace(workspace).watch / "off"
