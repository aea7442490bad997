"""Files that are never half written."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from errno import EDQUOT, ENOSPC
from pathlib import Path
from typing import Any

from domainlift.errors import BenchError

_FULL = {ENOSPC, EDQUOT}


def write_json(path: Path, value: Any) -> None:
    """Replace a file in one step: a reader sees the old content or the new, never a part."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with disk_errors(path):
        try:
            # Half a surrogate pair is written as JSON writes it.
            with part.open("w", encoding="utf-8", newline="\n", errors="backslashreplace") as file:
                file.write(text)
                file.flush()
                os.fsync(file.fileno())
            part.replace(path)
        finally:
            with suppress(OSError):
                part.unlink(missing_ok=True)


@contextmanager
def disk_errors(path: Path) -> Iterator[None]:
    """Turn a failing disk into an error that says what to do."""
    try:
        yield
    except OSError as error:
        # numpy reports that not all was written, but not why.
        if error.errno in _FULL or " requested and " in str(error):
            raise BenchError(
                f"the disk is full at `{path}`; everything before is stored",
                "make room and repeat the same command: it goes on where it stopped",
            ) from error
        raise BenchError(f"`{path}` cannot be written: {error.strerror}") from error


@contextmanager
def only_writer(lock: Path, what: str, hint: str) -> Iterator[None]:
    """Hold a lock file; a second writer gets an error that names the process of the first.

    The lock goes with its process, however that ends.
    """
    from filelock import FileLock, Timeout

    held = FileLock(lock, timeout=0)
    holder = lock.with_suffix(".json")
    with disk_errors(lock.parent):
        try:
            held.acquire()
        except Timeout as error:
            raise BenchError(f"{what} is being written{_holder(holder)}", hint) from error
    try:
        write_json(holder, {"pid": os.getpid(), "since": time.time()})
        yield
    finally:
        holder.unlink(missing_ok=True)
        held.release()


def inside(root: Path, name: str) -> Path:
    """The path of `name` in `root`; a name that leads out of it is refused."""
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()) or path == root.resolve():
        raise BenchError(f"`{name}` leads out of `{root}`")
    return path


def _holder(path: Path) -> str:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return f" by process {held['pid']} since {time.time() - held['since']:.0f} s"
    except (OSError, ValueError, KeyError, TypeError):
        return ""
