"""Append-only logs in JSON lines, which lose at most the last line to a kill or a full disk.

A line counts when its line feed is there. A torn last line is not read, and it is cut off before
anything is appended.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, TypeVar

from domainlift.errors import Malformed
from domainlift.files import disk_errors, sync_folder

_Row = TypeVar("_Row")
_BLOCK = 65536


def json_lines(rows: Iterable[Any]) -> str:
    """The text of a file with a line of JSON for each row."""
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def read_log(path: Path, parse: Callable[[Any], _Row], what: str, hint: str) -> Iterator[_Row]:
    """Yield the parsed value of every whole line; see `scan_log`."""
    return (row for _, row in scan_log(path, parse, what, hint))


def scan_log(
    path: Path, parse: Callable[[Any], _Row], what: str, hint: str
) -> Iterator[tuple[int, _Row]]:
    """Yield each whole line's byte offset and parsed value; nothing where there is no file.

    Malformed with the line's number, `what` it is not and `hint` where `parse` raises ValueError,
    TypeError, KeyError or AttributeError, or the line is not JSON.
    """
    if not path.exists():
        return
    offset = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            if not line.endswith(b"\n"):
                return
            try:
                row = parse(json.loads(line))
            except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
                raise Malformed(path, what, line=number, hint=hint) from error
            yield offset, row
            offset += len(line)


def read_lines_at(
    path: Path, parse: Callable[[Any], _Row], offsets: Iterable[int]
) -> Iterator[_Row]:
    """Yield the parsed values of the lines that begin at these byte offsets."""
    with path.open("rb") as file:
        for offset in offsets:
            file.seek(offset)
            yield parse(json.loads(file.readline()))


class AppendLog:
    """A log that one process at a time appends to; the caller holds the lock.

    With `fsync` a line is on the disk when `append` returns, otherwise it is with the system.
    """

    def __init__(self, path: Path, *, fsync: bool = False) -> None:
        self.path = path
        self._fsync = fsync
        self._file: IO[bytes] | None = None

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Cut off a torn last line, and close the file at the end; `append` is for this block."""
        _cut_torn_line(self.path)
        try:
            yield
        finally:
            if self._file is not None:
                # The last flush of a full disk fails again here; it was reported when it first did.
                with suppress(OSError):
                    self._file.close()
                self._file = None

    def append(self, row: Mapping[str, Any]) -> None:
        """Append one line; half a surrogate pair is written as JSON writes it."""
        line = json.dumps(row, ensure_ascii=False) + "\n"
        with disk_errors(self.path):
            if self._file is None:
                self._file = self._open()
            self._file.write(line.encode("utf-8", "backslashreplace"))
            self._file.flush()
            if self._fsync:
                os.fsync(self._file.fileno())

    def _open(self) -> IO[bytes]:
        is_new = not self.path.exists()
        file = self.path.open("ab")
        if is_new and self._fsync:
            sync_folder(self.path.parent)
        return file


def _cut_torn_line(path: Path) -> None:
    if not path.exists():
        return
    with disk_errors(path), path.open("rb+") as file:
        size = end = file.seek(0, os.SEEK_END)
        while end:
            start = max(0, end - _BLOCK)
            file.seek(start)
            line_feed = file.read(end - start).rfind(b"\n")
            if line_feed >= 0:
                end = start + line_feed + 1
                break
            end = start
        if end < size:
            file.truncate(end)
