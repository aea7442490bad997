"""Ledger of the uses of held-out questions.

A held-out split that decides again and again ends up being selected on. So each use is written
down before it is made, with its decision, and spends a part of the error rate (alpha spending); a
use that is repeated for the same candidate is no new one.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from domainlift.files import exclusive_lock, timestamp
from domainlift.jsonl import AppendLog, read_log
from domainlift.workspace import Workspace

#: Below this level a use can hardly show anything: fresh questions are due.
DUE = 0.001


@dataclass(frozen=True)
class HeldOutUse:
    """One use of a held-out split.

    `tasks` has a digest of the data of each task, `questions` of those that were asked, and
    `candidate` of what was judged on them. `number` counts the uses of any of the tasks from 1,
    and `level` is the error rate that it may spend.
    """

    tasks: Mapping[str, str]
    questions: str
    candidate: str
    number: int
    level: float
    run: str
    decision: str
    when: str
    n: int

    @property
    def exhausted(self) -> bool:
        """Whether the alpha budget is used up: the next use could hardly show anything."""
        return alpha_spent(1.0, self.number + 1) * self.level / alpha_spent(1.0, self.number) < DUE


def alpha_spent(level: float, number: int) -> float:
    """Return the part of `level` that the use of this number may spend: 6 level / (π number)².

    The parts of all uses add up to the level, however many there will be.
    """
    return level * 6 / (math.pi * number) ** 2


class HeldOutLedger:
    """The uses in a workspace: an append-only file with one line for each."""

    def __init__(self, workspace: Path) -> None:
        self.path = Workspace(workspace).held_out_ledger

    def uses(self) -> list[HeldOutUse]:
        """All uses, oldest first; Malformed where a line is none.

        A line that was not finished was not followed by a use.
        """
        hint = "restore the line: a look that is forgotten makes later claims too bold"
        return list(read_log(self.path, _use, "not a look", hint))

    def record_use(
        self,
        tasks: Mapping[str, str],
        ids: Sequence[str],
        candidate: str,
        level: float,
        *,
        run: str,
        decision: str,
    ) -> HeldOutUse:
        """Write down a use before it is made, or find the earlier one for this candidate.

        `ids` are questions of `tasks`, whose data have these digests. A use of other questions of
        the same tasks counts too: most of them may be the same.
        """
        questions = hashlib.sha256("\n".join(sorted(ids)).encode()).hexdigest()[:16]
        lock = self.path.with_suffix(".lock")
        with exclusive_lock(lock, "the ledger of held-out questions", "wait for it"):
            before = [look for look in self.uses() if look.tasks.items() & tasks.items()]
            for look in before:
                if (look.candidate, look.questions) == (candidate, questions):
                    return look
            number = len(before) + 1
            new = HeldOutUse(
                tasks=dict(tasks),
                questions=questions,
                candidate=candidate,
                number=number,
                level=alpha_spent(level, number),
                run=run,
                decision=decision,
                when=timestamp(),
                n=len(ids),
            )
            log = AppendLog(self.path)
            with log.writing():
                log.append(asdict(new))
            return new


def _use(row: Mapping[str, Any]) -> HeldOutUse:
    return HeldOutUse(**{f.name: row[f.name] for f in fields(HeldOutUse)})
