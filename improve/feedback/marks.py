"""Marks on served replies, in an append-only log: right or wrong, queued, accepted or rejected.

Whether a question may become a training row or a question of the exam is decided by its words when
it is marked, so that one question is never both, whoever asks it and however often.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from enum import StrEnum
from pathlib import Path
from typing import Any

from domainlift.errors import BenchError, Misuse, begun_name, member_of
from domainlift.files import exclusive_lock, timestamp
from domainlift.jsonl import AppendLog, read_log
from domainlift.sampling import hash_order
from domainlift.text.normalise import words
from domainlift.workspace import Workspace
from improve.feedback.reply_log import ServedReply

#: The longest correction, in characters.
LONGEST = 4_000
_PATIENCE = 30.0


class MarkVerdict(StrEnum):
    """What a person says of an answer."""

    RIGHT = "right"
    WRONG = "wrong"


class Use(StrEnum):
    """What a question may become."""

    EXAM = "exam"
    ROWS = "rows"


class MarkState(StrEnum):
    """Where a mark stands in the queue."""

    QUEUED = "queued"
    ACCEPTED = "accepted"
    REJECTED = "rejected"


@dataclass(frozen=True)
class FeedbackMark:
    """A mark on a reply; `why` says what became of it."""

    reply: ServedReply
    verdict: MarkVerdict
    correction: str
    use: Use
    when: str
    state: MarkState = MarkState.QUEUED
    why: str = ""

    @property
    def id(self) -> str:
        """The id of the reply: the last mark on it counts."""
        return self.reply.id

    @property
    def right(self) -> str:
        """The right answer as far as it is known, "" where it is not."""
        marked_right = self.verdict is MarkVerdict.RIGHT
        return self.correction or (self.reply.answer if marked_right else "")


def use_of(question: str) -> Use:
    """What this question may become: by the first bit of the hash of its words."""
    return Use.EXAM if hash_order(" ".join(words(question)), "feedback")[0] < 128 else Use.ROWS


class FeedbackStore:
    """The marks of a workspace; reading creates nothing."""

    def __init__(self, workspace: Path) -> None:
        self.path = Workspace(workspace).feedback / "marks.jsonl"

    def marks(self, state: MarkState | None = None) -> list[FeedbackMark]:
        """The marks in this state, or all, oldest first; Malformed where a line is none."""
        found: dict[str, FeedbackMark] = {}
        for row in read_log(self.path, _row, "not a mark", "take the line out"):
            if isinstance(row, FeedbackMark):
                found.pop(row.id, None)
                found[row.id] = row
            elif row["id"] in found:
                decided = {"state": MarkState(row["state"]), "why": row["why"]}
                found[row["id"]] = replace(found[row["id"]], **decided)
        return [mark for mark in found.values() if state in (None, mark.state)]

    def get(self, name: str) -> FeedbackMark:
        """The mark on a reply, by its id or the beginning of it; Misuse otherwise."""
        found = {mark.id: mark for mark in self.marks()}
        wanted = name.rpartition("-")[2]
        return found[begun_name("mark", wanted, list(found), "bench feedback list --all")]

    def add(self, reply: ServedReply, verdict: str, correction: str = "") -> FeedbackMark:
        """Mark a reply; Misuse for an unknown verdict, and where the mark before was decided on."""
        said = member_of(MarkVerdict, "verdict", verdict)
        if len(correction) > LONGEST:
            raise Misuse(f"the correction has more than {LONGEST:,} characters", "say it shorter")
        mark = FeedbackMark(reply, said, correction.strip(), use_of(reply.question), timestamp())
        with self._writing() as log:
            before = {each.id: each for each in self.marks()}.get(mark.id)
            if before is not None and before.state is not MarkState.QUEUED:
                raise Misuse(f"the mark on `{mark.id}` is {before.state} already")
            log.append(asdict(mark))
        return mark

    def decide(self, mark: FeedbackMark, state: MarkState, why: str) -> None:
        """Accept or reject a mark; BenchError where somebody else did."""
        with self._writing() as log:
            if self.get(mark.id).state is not MarkState.QUEUED:
                raise BenchError(f"the mark on `{mark.id}` is decided on already")
            log.append({"id": mark.id, "state": state, "why": why, "when": timestamp()})

    @contextmanager
    def _writing(self) -> Iterator[AppendLog]:
        lock, hint = self.path.with_suffix(".lock"), "repeat the command"
        with exclusive_lock(lock, "the log of feedback", hint, wait=_PATIENCE):
            log = AppendLog(self.path, fsync=True)
            with log.writing():
                yield log


def count_marks(marks: Iterable[FeedbackMark]) -> Mapping[tuple[str, str], int]:
    """Numbers of marks by verdict and state."""
    return Counter((mark.verdict.value, mark.state.value) for mark in marks)


def _row(row: Mapping[str, Any]) -> FeedbackMark | Mapping[str, Any]:
    """A mark, or what was decided on one."""
    if "reply" not in row:
        return {key: row[key] for key in ("id", "state", "why")}
    reply = ServedReply(**{**row["reply"], "passages": tuple(row["reply"]["passages"])})
    verdict, state = MarkVerdict(row["verdict"]), MarkState(row["state"])
    return FeedbackMark(
        reply, verdict, row["correction"], Use(row["use"]), row["when"], state, row["why"]
    )
