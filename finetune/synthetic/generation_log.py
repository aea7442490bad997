"""What a model said, line by line, so that a kill at any moment costs one line at most.

A line counts when its line feed is there; it is on the disk before the next thing is asked. Only
what was said and measured is kept, not what follows from it: other rules judge the same replies
anew without asking.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import IO, Any

from domainlift.errors import Malformed
from domainlift.files import disk_errors, exclusive_lock, sync_folder
from finetune.synthetic.grounding import PieceLogprobs


@dataclass(frozen=True)
class LoggedReply:
    """What a model wrote about a passage; `whole` is false where it was cut off."""

    passage: str
    kind: str
    text: str
    whole: bool


@dataclass(frozen=True)
class LoggedMeasure:
    """How likely the model finds a piece on a passage in one setting."""

    passage: str
    piece: str
    setting: str
    reading: PieceLogprobs


@dataclass
class GenerationLog:
    """The lines of one model on one knowledge base; `origin` says which model and prompts."""

    path: Path
    origin: Mapping[str, Any]
    replies: dict[tuple[str, str], LoggedReply] = field(default_factory=dict)
    measures: dict[tuple[str, str, str], PieceLogprobs] = field(default_factory=dict)
    _file: IO[bytes] | None = None

    @contextmanager
    def writing(self) -> Iterator[GenerationLog]:
        """Read what is there, and be the only one who appends to it."""
        with disk_errors(self.path):
            self.path.parent.mkdir(parents=True, exist_ok=True)
        lock = self.path.with_suffix(".lock")
        with exclusive_lock(lock, f"`{self.path.name}`", "wait for it, then repeat the command"):
            self._read()
            try:
                with disk_errors(self.path), self.path.open("ab") as file:
                    self._file = file
                    if not file.tell():
                        self._append({"origin": dict(self.origin)})
                        sync_folder(self.path.parent)
                    yield self
            finally:
                self._file = None

    def reply(self, reply: LoggedReply) -> None:
        """Keep what was written."""
        self._append({"reply": asdict(reply)})
        self._take_reply(reply)

    def measure(self, measure: LoggedMeasure) -> None:
        """Keep what was measured."""
        self._append({"measure": asdict(measure)})
        self._take_measure(measure)

    def _take_reply(self, reply: LoggedReply) -> None:
        self.replies[reply.passage, reply.kind] = reply

    def _take_measure(self, made: LoggedMeasure) -> None:
        self.measures[made.passage, made.piece, made.setting] = made.reading

    def _append(self, line: Mapping[str, Any]) -> None:
        if self._file is None:
            raise ValueError("nothing is written outside of `writing`")
        with disk_errors(self.path):
            text = json.dumps(line, ensure_ascii=False) + "\n"
            # Half a surrogate pair is written as JSON writes it.
            self._file.write(text.encode("utf-8", "backslashreplace"))
            self._file.flush()
            os.fsync(self._file.fileno())

    def _read(self) -> None:
        """Take in every whole line, and cut off a torn one."""
        if not self.path.exists():
            return
        content = self.path.read_bytes()
        whole = content.rfind(b"\n") + 1
        for number, line in enumerate(content[:whole].splitlines(), 1):
            try:
                self._take(json.loads(line))
            except (ValueError, TypeError, KeyError, RecursionError) as error:
                hint = "remove that line: what it held is asked again"
                raise Malformed(self.path, "no line of ours", line=number, hint=hint) from error
        if whole < len(content):
            with disk_errors(self.path), self.path.open("rb+") as file:
                file.truncate(whole)

    def _take(self, line: Mapping[str, Any]) -> None:
        if "reply" in line:
            self._take_reply(LoggedReply(**line["reply"]))
        elif "measure" in line:
            found = dict(line["measure"])
            lists = {key: tuple(value) for key, value in found.pop("reading").items()}
            self._take_measure(LoggedMeasure(**found, reading=PieceLogprobs(**lists)))
        elif dict(line["origin"]) != dict(self.origin):
            raise ValueError("another model or other prompts")
