"""Safe files: written in one step, locked, synced, within their folder."""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from errno import EDQUOT, ENOSPC
from pathlib import Path, PurePosixPath, PureWindowsPath
from secrets import token_hex
from typing import TYPE_CHECKING, Any

from domainlift.errors import BenchError

if TYPE_CHECKING:
    from filelock import BaseFileLock

_FULL = {ENOSPC, EDQUOT}
# safetensors is written in Rust, whose errors are no OSError and end with the number.
_RUST = re.compile(r"\(os error (\d+)\)")


def timestamp() -> str:
    """The time now as it is stored: ISO 8601 in UTC, to the second."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def write_json(path: Path, value: Any) -> None:
    """Replace a file in one step: a reader sees the old content or the new, never a part."""
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1) + "\n")


def write_text(path: Path, text: str) -> None:
    """Replace a file in one step; half a surrogate pair is written as JSON writes it."""
    write_bytes(path, text.encode("utf-8", errors="backslashreplace"))


def write_bytes(path: Path, content: bytes) -> None:
    """Replace a file in one step, in a folder that is made where it is missing."""
    part = path.with_name(f"{path.name}.{os.getpid()}.part")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            with part.open("wb") as file:
                file.write(content)
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
    except Exception as error:
        number = _errno(error)
        if number is None and not isinstance(error, OSError):
            raise
        # numpy reports that not all was written, but not why.
        if number in _FULL or " requested and " in str(error):
            raise BenchError(
                f"the disk is full at `{path}`; everything before is stored",
                "make room and repeat the same command: it goes on where it stopped",
            ) from error
        why = getattr(error, "strerror", None)
        raise BenchError(f"`{path}` cannot be written: {error if why is None else why}") from error


@contextmanager
def exclusive_lock(lock: Path, what: str, hint: str, *, wait: float = 0) -> Iterator[None]:
    """Hold a lock file; a second writer gets an error that names the process of the first.

    It waits for `wait` seconds. The folder is made where it is missing, and the lock goes with its
    process, however that ends.
    """
    from filelock import FileLock, Timeout

    held = FileLock(lock, timeout=wait)
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


@contextmanager
def atomic_folder(path: Path) -> Iterator[Path]:
    """Fill a folder aside; it appears as `path`, whole and synced, once the block ends well.

    What a killed process left aside is removed by the next one that writes into the same parent.
    """
    if path.exists():
        raise BenchError(f"`{path}` exists already", "name another folder, or remove this one")
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_unfinished(path.parent)
        with _aside(path.parent) as build:
            yield build
            sync(build)
            build.rename(path)
            sync_folder(path.parent)


def sync(folder: Path) -> None:
    """Have the disk hold everything in a folder, so that no power cut can publish a part."""
    for path in sorted(folder.rglob("*")):
        if path.is_dir():
            sync_folder(path)
        else:
            with path.open("rb+") as file:
                os.fsync(file.fileno())
    sync_folder(folder)


def sync_folder(folder: Path) -> None:
    """Have the disk hold the names in a folder."""
    if os.name == "nt":  # Windows neither can nor need sync a folder
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def sha256(path: Path) -> str:
    """The SHA-256 of a file's content, in hexadecimal digits."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def text_sha256(text: str) -> str:
    """The SHA-256 of a text in UTF-8, in hexadecimal digits; half a surrogate pair is a `?`."""
    return hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()


def safe_join(root: Path, name: str) -> Path:
    """The path of `name` in `root`, all links followed; a name that leads out of it is refused."""
    path = (root / name).resolve()
    if not stays_inside(path, root) or path == root.resolve():
        raise BenchError(f"`{name}` leads out of `{root}`")
    return path


def stays_inside(path: Path, root: Path) -> bool:
    """Whether `path`, all links followed, lies in `root`."""
    try:
        return path.resolve().is_relative_to(root.resolve())
    except (OSError, RuntimeError):  # a loop of links; which of the two depends on the Python
        return False


def leads_out(name: str) -> bool:
    """Whether a name, on this system or another, is not simply a path within a folder.

    Links are not followed: a mirror of published data may consist of them.
    """
    if not name.strip():
        return True
    paths = (PurePosixPath(name), PureWindowsPath(name))
    return any(path.anchor or ".." in path.parts for path in paths)


def _holder(path: Path) -> str:
    try:
        held = json.loads(path.read_text(encoding="utf-8"))
        return f" by process {held['pid']} since {time.time() - held['since']:.0f} s"
    except (OSError, ValueError, KeyError, TypeError):
        return ""


@contextmanager
def _aside(parent: Path) -> Iterator[Path]:
    """A hidden folder; the lock beside it tells others that its process lives."""
    from filelock import FileLock

    build = parent / f".build-{token_hex(4)}"
    lock = FileLock(build.with_name(f"{build.name}.lock"), timeout=0)
    lock.acquire()
    try:
        build.mkdir()
        yield build
    finally:
        shutil.rmtree(build, ignore_errors=True)
        _drop(lock)


def _remove_unfinished(parent: Path) -> None:
    from filelock import FileLock, Timeout

    for path in parent.glob(".build-*.lock"):
        lock = FileLock(path, timeout=0)
        with suppress(Timeout, OSError):  # its process lives, or has just ended well
            lock.acquire()
            shutil.rmtree(path.with_suffix(""), ignore_errors=True)
            _drop(lock)


def _drop(lock: BaseFileLock) -> None:
    """Release a lock and remove its file, as far as the system lets us."""
    lock.release()
    with suppress(OSError):
        Path(lock.lock_file).unlink()


def _errno(error: Exception) -> int | None:
    if isinstance(error, OSError):
        return error.errno
    found = _RUST.search(str(error))
    return int(found[1]) if found is not None else None
