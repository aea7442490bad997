"""`bench watch`: look at what has changed since the last version, and do what follows."""

from __future__ import annotations

import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated

import typer

from bench.options import WORKSPACE, Data, Json, WorkspaceOption
from domainlift.activity import activity
from domainlift.errors import BenchError, Misuse
from domainlift.hints import copyable
from domainlift.text.display import printable
from improve.alerts import decision_alert, send_alert, targets_from_environment
from improve.versions.decision_log import Decision, DecisionLog
from reports.terminal import print_json, print_note, print_table
from watch.once import switch, switched_off, watch_once
from watch.timers import install_hint, parse_interval


def watch_command(
    once: Annotated[bool, typer.Option("--once", help="Look once, for cron or a timer.")] = False,
    every: Annotated[
        str | None, typer.Option(help="Look again and again: 30m, 1h, 7d.", metavar="INTERVAL")
    ] = None,
    off: Annotated[
        str | None, typer.Option("--off", help="Switch the watch off, and say why.", metavar="WHY")
    ] = None,
    on: Annotated[bool, typer.Option("--on", help="Switch it on again.")] = False,
    hint: Annotated[
        bool, typer.Option("--install-hint", help="Print a systemd timer and a line for cron.")
    ] = False,
    workspace: WorkspaceOption = WORKSPACE,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Look at what has changed since the last version, and do what follows.

    Documents, questions, rows, the base model and the answers to a probe set are looked at. What
    changed is synced, or a challenger is made by the command that made the champion; the gate and
    the probe set decide what is served. Each look is a line of `watch/log.jsonl` in the workspace.

    Example: bench watch --once
    """
    ways = (once, every is not None, off is not None, on, hint)
    if sum(ways) != 1:
        what = "say one of `--once`, `--every`, `--off`, `--on` and `--install-hint`"
        raise Misuse(what, "`bench watch --once` looks once")
    if hint:
        print(install_hint(workspace, Path.cwd()), end="")
    elif off is not None or on:
        switch(workspace, off if off is not None else "")
        state = switched_off(workspace)
        print(f"the watch of `{workspace}` is {f'off: {printable(state)}' if state else 'on'}")
    elif every is not None:
        _again_and_again(every, workspace, data, as_json=as_json)
    else:
        decision = _looked(workspace, data, as_json=as_json)
        if decision.error:
            raise BenchError(decision.error, "the next look tries again after a pause")


def _again_and_again(every: str, workspace: Path, data: Path | None, *, as_json: bool) -> None:
    """Look until Ctrl-C; what fails is told and tried again after its pause."""
    interval = parse_interval(every)
    while True:
        try:
            _looked(workspace, data, as_json=as_json)
        except BenchError as error:
            if isinstance(error, Misuse):
                raise
            print_note(error.what)
        print_note(f"next look at {datetime.now().astimezone() + interval:%Y-%m-%d %H:%M}")
        with activity(""):
            time.sleep(interval.total_seconds())


def _looked(workspace: Path, data: Path | None, *, as_json: bool) -> Decision:
    """Look once, tell what was decided, and alert whoever wants to know."""
    before = DecisionLog(workspace).decisions()[-1:]
    decision = watch_once(workspace, datetime.now(UTC), data=data)
    _tell(decision, as_json=as_json)
    alert = decision_alert(decision, *before)
    if alert is not None:
        for failure in send_alert(alert, targets_from_environment()):
            print_note(failure)
    return decision


def _tell(decision: Decision, *, as_json: bool) -> None:
    if as_json:
        print_json(decision.as_json())
        return
    served = f", `{decision.version}` is served" if decision.version is not None else ""
    print(f"{decision.decision}: {printable(copyable(decision.reason))}{served}", flush=True)
    if decision.triggers:
        marks = ("", "fired")
        cells = (
            (name, f"{each.score:g}", f"{each.threshold:g}", marks[each.fired])
            for name, each in decision.triggers.items()
        )
        print_table(("trigger", "score", "threshold", ""), cells)
    sys.stdout.flush()
