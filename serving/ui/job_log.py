"""The log of `bench improve` by stages: what is told once, and how far the last stage is."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field

#: The stages of `improve/loop.py` in their order; one without a weak domain ends early.
STAGES = (
    *("baseline", "knowledge bases", "triage", "training", "selection", "router"),
    "held-out questions",
)
#: What comes before the first stage: of documents, the making of the exam.
FIRST = "preparation"
_STAGE = re.compile(r"\[\d+\] (.+)")
_COUNT = re.compile(
    r"(?P<what>.*?)  (?P<done>\d+)/(?P<total>\d+)(?:  (?P<rate>\S+/s))?(?:  (?P<left>.+) left)?"
)
_HEARTBEAT = "… "
_MOST_LINES = 400


@dataclass(frozen=True)
class StageProgress:
    """How far a stage is; `left` is the time that the command foretells, "" where it does not."""

    what: str
    done: int = 0
    total: int = 0
    left: str = ""


@dataclass
class StageLog:
    """A stage with its lines, but for those of its progress, of which the last one counts."""

    name: str
    lines: list[str] = field(default_factory=list)
    progress: StageProgress | None = None

    @property
    def text(self) -> str:
        """The lines, without empty ones around them."""
        cut = len(self.lines) - _MOST_LINES
        note = [f"… {cut} more lines in the log"] if cut > 0 else []
        return "\n".join([*note, *self.lines[-_MOST_LINES:]]).strip("\n")


def read_stages(log: str) -> list[StageLog]:
    """The stages that have begun."""
    stages = [StageLog(FIRST)]
    for line in map(str.rstrip, log.splitlines()):
        begun = _STAGE.fullmatch(line)
        if begun is not None:
            stages.append(StageLog(begun[1]))
            continue
        found = _progress(line)
        if found is None:
            stages[-1].lines.append(line)
        elif found.total or stages[-1].progress is None or not stages[-1].progress.total:
            stages[-1].progress = found
    return [each for each in stages if each.name != FIRST or each.text or len(stages) == 1]


def waiting(begun: list[StageLog]) -> Iterator[str]:
    """The stages that may follow."""
    last = begun[-1].name if begun else FIRST
    yield from STAGES[STAGES.index(last) + 1 :] if last in STAGES else STAGES


def _progress(line: str) -> StageProgress | None:
    if line.startswith(_HEARTBEAT):
        return StageProgress(line.removeprefix(_HEARTBEAT))
    counted = _COUNT.fullmatch(line)
    if counted is None:
        return None
    done, total = int(counted["done"]), int(counted["total"])
    return StageProgress(" ".join(counted["what"].split()), done, total, counted["left"] or "")
