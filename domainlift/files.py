"""Files that are never half written."""

from __future__ import annotations

import json
import os
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
        if error.errno in _FULL:
            raise BenchError(
                f"the disk is full at `{path}`; everything before is stored",
                "make room and repeat the same command: it goes on where it stopped",
            ) from error
        raise BenchError(f"`{path}` cannot be written: {error.strerror}") from error


def inside(root: Path, name: str) -> Path:
    """The path of `name` in `root`; a name that leads out of it is refused."""
    path = (root / name).resolve()
    if not path.is_relative_to(root.resolve()) or path == root.resolve():
        raise BenchError(f"`{name}` leads out of `{root}`")
    return path
