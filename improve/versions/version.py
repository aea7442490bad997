"""Version of what is served, and the replay of the events that made it what it is."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from enum import StrEnum
from typing import Any


class State(StrEnum):
    """What a version is: served, on trial, replaced, or found to be bad."""

    CHAMPION = "champion"
    CHALLENGER = "challenger"
    ARCHIVED = "archived"
    QUARANTINED = "quarantined"


@dataclass(frozen=True)
class Evidence:
    """Held-out evidence of a plan: `n` questions, and the accuracy with its interval.

    `baseline` and `candidate` are runs, `report` is an HTML file; "" where there is none.
    """

    verdict: str = ""
    n: int = 0
    accuracy: float | None = None
    interval: tuple[float, float] | None = None
    baseline: str = ""
    candidate: str = ""
    report: str = ""


@dataclass(frozen=True)
class Move:
    """A change of state: when, into which, by whom or what, and why."""

    when: str
    state: State
    by: str
    why: str


@dataclass(frozen=True)
class Version:
    """A version; only its `state` and `moves` ever change.

    `content` is a digest of what it does to questions, `digest` that of the base model. `files`
    are the paths in the workspace of all that it consists of, with their SHA-256; `plan` is the
    one that is served. `command` is the command that made it, `material` what there was to learn
    from then (`improve.material`). `turn` counts who became champion.
    """

    name: str
    created: str
    model: str
    digest: str
    plan: str
    content: str
    files: Mapping[str, str]
    evidence: Evidence
    command: str = ""
    material: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    state: State = State.CHALLENGER
    moves: tuple[Move, ...] = ()
    turn: int = 0

    @property
    def number(self) -> int:
        """The number in its name."""
        return int(self.name.removeprefix("v"))

    @property
    def last(self) -> Move:
        """The change that made it what it is."""
        return self.moves[-1]

    def as_json(self) -> dict[str, Any]:
        """A row of `bench versions list --json`."""
        evidence = self.evidence
        return {
            "version": self.name,
            "state": self.state.value,
            "created": self.created,
            "accuracy": evidence.accuracy,
            "interval": list(evidence.interval) if evidence.interval is not None else None,
            "n": evidence.n,
            "why": self.last.why,
            "by": self.last.by,
            "model": self.model,
        }


@dataclass(frozen=True)
class Event:
    """A line of the log: a version became `state`, or was dropped where it is None.

    `made` describes one that is new. Where a version becomes champion, the one before of the same
    model becomes `former` with the same line, so that there is never none and never two.
    """

    version: str
    when: str
    by: str
    why: str
    state: State | None = None
    made: Mapping[str, Any] = field(default_factory=dict)
    former: State = State.ARCHIVED

    def row(self) -> dict[str, Any]:
        """The line's values."""
        return asdict(self)


def champion_of(versions: Iterable[Version], model: str | None = None) -> Version | None:
    """The champion of a model, or of any: the last that became it; None where there is none."""
    found = (v for v in versions if v.state is State.CHAMPION and model in (None, v.model))
    return max(found, key=lambda version: version.turn, default=None)


def made_of(version: Version) -> dict[str, Any]:
    """What an event keeps of a new version: all that never changes."""
    changing = ("state", "moves", "turn")
    return {key: value for key, value in asdict(version).items() if key not in changing}


def read_event(row: Mapping[str, Any]) -> Event:
    """An event of a line; KeyError, TypeError or ValueError where it is none."""
    values = {each.name: row[each.name] for each in fields(Event)}
    state = State(row["state"]) if row["state"] is not None else None
    return Event(**{**values, "state": state, "former": State(row["former"])})


def replay(events: Iterable[Event]) -> dict[str, Version]:
    """The versions by name, oldest first, as the events left them."""
    versions: dict[str, Version] = {}
    for turn, event in enumerate(events, 1):
        if event.made:
            versions[event.version] = _version(event.made)
        if event.state is None:
            versions.pop(event.version, None)
            continue
        this = versions[event.version]
        if event.state is State.CHAMPION:
            for name, each in versions.items():
                if each.state is State.CHAMPION and each.model == this.model and name != this.name:
                    versions[name] = _moved(each, event, event.former)
            this = replace(this, turn=turn)
        versions[event.version] = _moved(this, event, event.state)
    return versions


def _moved(version: Version, event: Event, state: State) -> Version:
    why = event.why if version.name == event.version else f"{event.version}: {event.why}"
    move = Move(event.when, state, event.by, why)
    return replace(version, state=state, moves=(*version.moves, move))


def _version(made: Mapping[str, Any]) -> Version:
    evidence = dict(made["evidence"])
    if evidence["interval"] is not None:
        low, high = evidence["interval"]
        evidence["interval"] = (low, high)
    return Version(**{**made, "evidence": Evidence(**evidence)})
