"""Errors that a person can act on.

BenchError            it failed; exit code 1
├── Misuse            the command or a file is wrong; exit code 2
│   ├── NoSuch        a name that does not exist, with the nearest one that does
│   └── Malformed     a file that cannot be read, with its place
├── EngineDown        the model's server or process cannot go on; the run can be resumed
└── Interrupted       Ctrl-C or SIGTERM; exit code 130 or 143

Every error says in one line what is wrong and where; `hint` is the command or the change that
mends it, with the workspace that the user named. Only `bench.app` prints them and turns them into
exit codes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from enum import StrEnum
from pathlib import Path
from typing import TypeVar

from domainlift.hints import copyable

_Member = TypeVar("_Member", bound=StrEnum)


class BenchError(Exception):
    """Something failed; `what` is one line without a full stop."""

    exit_code = 1

    def __init__(self, what: str, hint: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.hint = copyable(hint) if hint is not None else None


class Misuse(BenchError):
    """The command line or a file given to it is wrong."""

    exit_code = 2


class NoSuch(Misuse):
    """A name that is not among those that exist: `see` shows them, `make` makes the first."""

    def __init__(
        self, kind: str, name: str, known: Iterable[str], see: str = "", make: str = ""
    ) -> None:
        known = sorted(known)
        near = get_close_matches(name, known, n=1)
        parts = [f"did you mean `{near[0]}`?"] if near else []
        if make and not known:
            parts.append(f"there is none yet: `{make}` makes one")
        elif see:
            parts.append(f"`{see}` shows all {len(known)}")
        elif not near:
            parts.append("known: " + (", ".join(f"`{k}`" for k in known) or "none"))
        super().__init__(f"no {kind} `{name}`", " ".join(parts))


def member_of(choices: type[_Member], kind: str, name: str, *others: str) -> _Member:
    """The member of an enumeration; NoSuch otherwise, which names these and the `others`."""
    known = [each.value for each in choices]
    if name not in known:
        raise NoSuch(kind, name, [*known, *others])
    return choices(name)


def begun_name(kind: str, name: str, known: Sequence[str], see: str, make: str = "") -> str:
    """The known name that this is, or the only one that begins so; Misuse where several do."""
    if name in known:
        return name
    fitting = [each for each in known if name and each.startswith(name)]
    if not fitting:
        raise NoSuch(kind, name, known, see, make)
    if len(fitting) > 1:
        few = ", ".join(f"`{each}`" for each in fitting[:5])
        raise Misuse(f"`{name}` is the beginning of {len(fitting)} {kind}s", f"one of them: {few}")
    return fitting[0]


class Malformed(Misuse):
    """A file whose content is not what it should be."""

    def __init__(
        self, path: Path, what: str, *, line: int | None = None, hint: str | None = None
    ) -> None:
        place = f"{path}:{line}" if line is not None else str(path)
        super().__init__(f"{place}: {what}", hint)


class EngineDown(BenchError):
    """The engine cannot answer any more; what is stored stays, and the run can be resumed."""


class Interrupted(BenchError):
    """The user pressed Ctrl-C, or SIGTERM came; what was stored until then stays."""

    exit_code = 130
