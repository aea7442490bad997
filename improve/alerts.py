"""Alerts to a webhook and to a command: what a person should know of without asking."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from domainlift.text.display import one_line, printable, without_credentials
from improve.versions.decision_log import Decision

_WEBHOOK, _COMMAND = "BENCH_ALERT_WEBHOOK", "BENCH_ALERT_COMMAND"
_SECONDS, _TRIES = 15.0, 2


@dataclass(frozen=True)
class Alert:
    """What happened: `kind` in a word (`drop`, `rollback`, …), `what` in a sentence."""

    kind: str
    what: str
    version: str = ""
    when: str = ""
    figures: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class AlertTargets:
    """Where alerts go, "" for nowhere.

    `webhook` is a URL that gets JSON; its key `text` is what chat services show. `command` is run
    without a shell, with the JSON on its standard input and the sentence in BENCH_ALERT.
    """

    webhook: str = ""
    command: str = ""


def targets_from_environment() -> AlertTargets:
    """The targets that BENCH_ALERT_WEBHOOK and BENCH_ALERT_COMMAND name."""
    return AlertTargets(os.environ.get(_WEBHOOK, ""), os.environ.get(_COMMAND, ""))


def decision_alert(decision: Decision, before: Decision | None = None) -> Alert | None:
    """The alert that a look of the watch is worth; None where it is not, or was `before` already.

    A version was rolled back, a drop is shown, the base model is another one, most documents are
    gone, or the look failed.
    """
    kind = _kind(decision)
    if not kind or (before is not None and _same(decision, before)):
        return None
    figures: dict[str, Any] = {"decision": decision.decision}
    if decision.probe is not None:
        look = decision.probe
        figures |= {"accuracy": look.accuracy, "interval": list(look.interval), "n": look.n}
    served = f"; `{decision.version}` is served" if decision.version else ""
    what = f"{kind}: {decision.reason}{served}"
    return Alert(kind, what, decision.version or "", decision.when, figures)


def _kind(decision: Decision) -> str:
    fired = {name for name, signal in decision.triggers.items() if signal.fired}
    kinds = {
        "rollback": decision.decision == "rollback",
        "drop": decision.probe is not None and decision.probe.seen,
        "failed": bool(decision.error),
        "base": "base" in fired,
        "gone": "gone" in fired,
    }
    return next((kind for kind, holds in kinds.items() if holds), "")


def _same(decision: Decision, before: Decision) -> bool:
    """Whether a state lasts that was told at the look before; what happens anew is told anew."""
    lasting = ("failed", "base", "gone")
    return _kind(decision) == _kind(before) and _kind(decision) in lasting


def send_alert(alert: Alert, targets: AlertTargets) -> list[str]:
    """Send an alert everywhere; what failed, in sentences without credentials.

    It never raises: what an alert is about must go on.
    """
    sentence = printable(one_line(alert.what, 500), " ")
    body = {"text": f"domainlift: {sentence}", **asdict(alert)}
    failed = []
    if targets.webhook:
        failed.append(_post(targets.webhook, body))
    if targets.command:
        failed.append(_run(targets.command, body, sentence))
    return [each for each in failed if each]


def _post(url: str, body: Mapping[str, Any]) -> str:
    import httpx

    why = ""
    for _ in range(_TRIES):
        try:
            reply = httpx.post(url, json=body, timeout=_SECONDS, follow_redirects=False)
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            why = type(error).__name__
            continue
        if reply.is_success:
            return ""
        why = f"status {reply.status_code}"
        if reply.status_code < 500:
            break
    # The path of a webhook is its secret.
    place = without_credentials(url).split("?", 1)[0]
    host = "/".join(place.split("/", 3)[:3])
    return f"the alert could not be sent to {host}/…: {why}"


def _run(command: str, body: Mapping[str, Any], sentence: str) -> str:
    try:
        words = shlex.split(command)
        done = subprocess.run(  # noqa: S603 - the user's own command, without a shell
            words,
            input=json.dumps(body, ensure_ascii=False),
            env={**os.environ, "BENCH_ALERT": sentence},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=_SECONDS,
            check=False,
        )
    except (OSError, ValueError, IndexError, subprocess.TimeoutExpired) as error:
        return f"the alert command `{command.split(' ')[0]}` failed: {type(error).__name__}"
    if done.returncode:
        said = one_line(done.stderr, 200)
        return f"the alert command `{words[0]}` failed with {done.returncode}: {printable(said)}"
    return ""
