"""Decisions of `bench watch`: an append-only log with what each was decided on.

<workspace>/watch/log.jsonl   one line for each look, also where nothing was to be done
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any

from domainlift.jsonl import AppendLog, read_log
from domainlift.workspace import Workspace

_HINT = "remove that line: the next look decides anew"


@dataclass(frozen=True)
class Signal:
    """What a trigger says: its score, from where on it fires, and whether it did."""

    score: float
    threshold: float
    fired: bool


@dataclass(frozen=True)
class ProbeLook:
    """The probe set, asked through a version: the run, its score, and the test for a drop.

    `kind` is `promised` for the first after a promotion, which later ones are compared with.
    """

    version: str
    run: str
    kind: str
    n: int
    accuracy: float
    interval: tuple[float, float]
    baseline: float
    p: float
    level: float
    seen: bool


@dataclass(frozen=True)
class Decision:
    """A look: what was decided, why, on which signals and inputs.

    `decision` is nothing, sync, challenge, promote, reject or rollback; `version` is the champion
    when the look was over. `inputs` are the material by file, hashes, and what they were compared
    with; `consumed` is the digest of the inputs that a challenge, a sync or a rejection used up.
    `error` is that of a look that failed, `failures` were so in a row.
    """

    when: str
    decision: str
    reason: str
    version: str | None = None
    challenger: str | None = None
    triggers: Mapping[str, Signal] = field(default_factory=dict)
    inputs: Mapping[str, Any] = field(default_factory=dict)
    consumed: tuple[str, ...] = ()
    probe: ProbeLook | None = None
    error: str = ""
    failures: int = 0
    seconds: float = 0.0

    def as_json(self) -> dict[str, Any]:
        """The object that `bench watch --once --json` prints, and a line of the log."""
        return asdict(self)


class DecisionLog:
    """The decisions in a workspace; the caller of `append` holds the watch's lock."""

    def __init__(self, workspace: Path) -> None:
        self.path = Workspace(workspace).watch / "log.jsonl"

    def decisions(self) -> list[Decision]:
        """All decisions, oldest first; Malformed where a whole line is none."""
        return list(read_log(self.path, _decision, "not a decision", _HINT))

    def append(self, decision: Decision) -> None:
        """Write a decision down; it is on the disk when this returns."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        log = AppendLog(self.path, fsync=True)
        with log.writing():
            log.append(decision.as_json())


def _decision(row: Mapping[str, Any]) -> Decision:
    values = {each.name: row[each.name] for each in fields(Decision)}
    signals = {name: Signal(**signal) for name, signal in row["triggers"].items()}
    probe = row["probe"]
    if probe is not None:
        low, high = probe["interval"]
        probe = ProbeLook(**{**probe, "interval": (low, high)})
    consumed = tuple(row["consumed"])
    return Decision(**{**values, "triggers": signals, "probe": probe, "consumed": consumed})
