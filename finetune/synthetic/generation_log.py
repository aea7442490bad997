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
        self._add({"reply": asdict(reply)})

    def measure(self, key: tuple[str, str, str], reading: PieceLogprob) -> None:
        """Keep what was measured of a passage, a piece and a setting."""
        named = dict(zip(("passage", "piece", "setting"), key, strict=True))
        self._add({"measure": {**named, "reading": asdict(reading)}})

    def _add(self, line: Mapping[str, Any]) -> None:
        self._log.append(line)
        self._take(line)

    def _take(self, line: Mapping[str, Any]) -> None:
        if "reply" in line:
            reply = LoggedReply(**line["reply"])
            self.replies[reply.passage, reply.kind] = reply
        elif "measure" in line:
            made = line["measure"]
            key = made["passage"], made["piece"], made["setting"]
            self.measures[key] = PieceLogprob(**made["reading"])
        elif dict(line["origin"]) != dict(self.origin):
            raise ValueError("another model or other prompts")
