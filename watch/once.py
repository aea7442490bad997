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
    with _alone(workspace):
        VersionRegistry(workspace).adopt()
        decision, asked = _look(workspace, now, bench, limits, data)
        if asked:  # nothing has been done about anything else yet
            decision, _ = _look(workspace, now, bench, limits, data)
    return decision


def _look(
    workspace: Path, now: datetime, bench: Bench | None, limits: Limits, data: Path | None
) -> tuple[Decision, bool]:
    """Observe, decide, act and write it down; whether all was to see that a promise is kept."""
    begun, log = time.monotonic(), DecisionLog(workspace)
    decisions = log.decisions()
    versions = VersionRegistry(workspace).versions()
    seen = observe(workspace, versions, decisions, data, switched_off(workspace))
    step = decide(seen, now, limits)
    decision = _act(step, seen, workspace, decisions, bench, now, data)
    decision = replace(decision, seconds=round(time.monotonic() - begun, 3))
    log.append(decision)
    kept = decision.decision == "nothing" and not decision.error
    return decision, kept and step.action is Action.PROMISE


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
    step: NextStep,
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
        reason="; ".join((step.reason, *seen.notes)),
        version=seen.version.name if seen.version is not None else None,
        challenger=seen.challenger.name if seen.challenger is not None else None,
        triggers=step.triggers,
        inputs=seen.inputs,
        failures=seen.failures,
    )
    if step.action is Action.NOTHING or seen.version is None:
        return told if step.paused else replace(told, failures=0)
    from watch.act import Acting, run_bench

    probes = [each.probe for each in decisions if each.probe is not None]
    looks = [look for look in probes if look.version == seen.version.name]
    run = bench if bench is not None else run_bench
    acting = Acting(workspace, seen.version, looks, run, data, seen.considered)
    try:
        done = _do(step, seen, acting)
    except Interrupted:
        raise
    except BenchError as error:
        word = step.action.value if step.action.value in ("sync", "challenge") else "nothing"
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
        consumed=step.uses,
        failures=seen.failures if step.paused else 0,
    )


def _do(step: NextStep, seen: Observed, acting: Acting) -> Result:
    from watch import act

    if step.action is Action.SYNC:
        return act.sync_documents(acting, [name for name, count in seen.changed.items() if count])
    if step.action is Action.CHALLENGE:
        return act.challenge(acting)
    if step.action is Action.JUDGE and seen.challenger is not None:
        return act.judge(acting, seen.challenger)
    if step.action is Action.PROMISE:
        return act.check_promise(acting)
    return act.look_again(acting, step.triggers["age"].score)


@contextmanager
def _alone(workspace: Path) -> Iterator[None]:
    lock = Workspace(workspace).watch / "watch.lock"
    with exclusive_lock(lock, "the watch", "it looks already; the next look finds what is left"):
        yield


def _switch(workspace: Path) -> Path:
    return Workspace(workspace).watch / "off"
