"""Log of what a model generated, line by line: a kill at any moment costs one line at most.

A line is on the disk before the next request. Only replies and measurements are logged, not what
follows from them: other rules judge the same replies anew without asking the model.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from domainlift.files import disk_errors, exclusive_lock
from domainlift.jsonl import AppendLog, read_log
from finetune.synthetic.grounding import PieceLogprob


@dataclass(frozen=True)
class LoggedReply:
    """A model's reply about a passage; `whole` is false where it was cut off."""

    passage: str
    kind: str
    text: str
    whole: bool


@dataclass(frozen=True)
class LoggedMeasure:
    """Log-probabilities of a text about a passage in one setting."""

    passage: str
    piece: str
    setting: str
    reading: PieceLogprob


@dataclass
class GenerationLog:
    """The lines of one model on one knowledge base; `origin` says which model and prompts."""

    path: Path
    origin: Mapping[str, Any]
    replies: dict[tuple[str, str], LoggedReply] = field(default_factory=dict)
    measures: dict[tuple[str, str, str], PieceLogprob] = field(default_factory=dict)
    _log: AppendLog = field(init=False)

    def __post_init__(self) -> None:
        self._log = AppendLog(self.path, fsync=True)

    @contextmanager
    def writing(self) -> Iterator[GenerationLog]:
        """Read what is there, and be the only one who appends to it."""
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = self.path.with_suffix(".lock")
        with exclusive_lock(lock, f"`{self.path.name}`", "wait for it, then repeat the command"):
            hint = "remove that line: what it held is asked again"
            deque(read_log(self.path, self._take, "no line of ours", hint), maxlen=0)
            with self._log.writing():
                if not self.path.exists() or not self.path.stat().st_size:
                    self._log.append({"origin": dict(self.origin)})
                yield self

    def reply(self, reply: LoggedReply) -> None:
        """Keep what was written."""
        self._log.append({"reply": asdict(reply)})
        self._take_reply(reply)

    def measure(self, measure: LoggedMeasure) -> None:
        """Keep what was measured."""
        self._log.append({"measure": asdict(measure)})
        self._take_measure(measure)

    def _take_reply(self, reply: LoggedReply) -> None:
        self.replies[reply.passage, reply.kind] = reply

    def _take_measure(self, made: LoggedMeasure) -> None:
        self.measures[made.passage, made.piece, made.setting] = made.reading

    def _take(self, line: Mapping[str, Any]) -> None:
        if "reply" in line:
            self._take_reply(LoggedReply(**line["reply"]))
        elif "measure" in line:
            values = dict(line["measure"])
            reading = PieceLogprob(**values.pop("reading"))
            self._take_measure(LoggedMeasure(**values, reading=reading))
        elif dict(line["origin"]) != dict(self.origin):
            raise ValueError("another model or other prompts")
