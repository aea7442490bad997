"""Jobs: `bench improve` in a process of its own, which outlives the page and its server.

jobs/ID/job.json      the arguments, the process, and when it was started
jobs/ID/log           all that it says
jobs/ID/ended.json    its exit code and when it ended; none of a killed one
jobs/running.lock     held by the job that runs: there is one at a time
"""

from __future__ import annotations

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from secrets import token_hex
from threading import Lock
from typing import Any

from domainlift.errors import BenchError, Misuse, NoSuch
from domainlift.files import disk_errors, write_json
from domainlift.workspace import Workspace
from reports.terminal import duration
from serving.ui.job_process import ENDED, LOCK

_STARTED_SECONDS, _MOST_BYTES = 20.0, 1_000_000
_STOPPED = (130, 143)


class JobState(StrEnum):
    """State of a job. A stopped or killed one goes on where it was when it is started again."""

    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    STOPPED = "stopped"
    KILLED = "killed"


@dataclass(frozen=True)
class Job:
    """A job; `arguments` are those of `bench`, `ended` is None where nobody wrote it down."""

    id: str
    folder: Path
    arguments: tuple[str, ...]
    pid: int
    started: float
    state: JobState
    ended: float | None = None

    @property
    def command(self) -> str:
        """The command for a terminal."""
        return shlex.join(["bench", *self.arguments])

    @property
    def took(self) -> str:
        """How long it took, or takes until now; "" for a killed one."""
        until = time.time() if self.state is JobState.RUNNING else self.ended
        return "" if until is None else duration(until - self.started)

    @property
    def date(self) -> str:
        """When it was started, in UTC."""
        return datetime.fromtimestamp(self.started, UTC).strftime("%Y-%m-%d %H:%M")

    def log(self) -> str:
        """The end of what it said."""
        path = self.folder / "log"
        with path.open("rb") as file:
            file.seek(max(0, path.stat().st_size - _MOST_BYTES))
            return file.read().decode("utf-8", "replace")


class JobStore:
    """The jobs of a workspace; `module` is the program that is run."""

    def __init__(self, workspace: Path, module: str = "bench") -> None:
        self._root = Workspace(workspace).jobs.absolute()
        self._module = module
        self._lock = Lock()
        self._children: list[subprocess.Popen[bytes]] = []

    def jobs(self) -> list[Job]:
        """All jobs, the newest first."""
        with self._lock:
            return self._list()

    def get(self, name: str) -> Job:
        """One job; NoSuch for an unknown id."""
        jobs = {each.id: each for each in self.jobs()}
        if name not in jobs:
            raise NoSuch("job", name, jobs)
        return jobs[name]

    def start(self, arguments: Sequence[str]) -> Job:
        """Start a job; Misuse while another one is running."""
        with self._lock:
            if any(each.state is JobState.RUNNING for each in self._list()):
                raise Misuse("a job is running", "wait for it, or stop it: one runs at a time")
            now = time.time()
            name = f"{datetime.fromtimestamp(now, UTC):%Y%m%d-%H%M%S}-{token_hex(2)}"
            folder = self._root / name
            with disk_errors(folder):
                folder.mkdir(parents=True)
            child = self._spawn(folder, arguments)
            about = {"arguments": [*arguments], "pid": child.pid, "started": now}
            write_json(folder / "job.json", about)
            self._wait_for_lock(child)
            return next(each for each in self._list() if each.id == name)

    def stop(self, name: str) -> None:
        """Ask a job to end, so that it can be resumed; Misuse where it does not run."""
        with self._lock:
            running = (each for each in self._list() if each.state is JobState.RUNNING)
            job = next((each for each in running if each.id == name), None)
            if job is None:
                raise Misuse("this job is not running any more", "load the page anew")
            with suppress(ProcessLookupError):
                os.kill(job.pid, signal.SIGTERM)

    def _spawn(self, folder: Path, arguments: Sequence[str]) -> subprocess.Popen[bytes]:
        """Start the process in a session of its own, which no closed terminal ends."""
        runner = (sys.executable, "-P", "-m", "serving.ui.job_process", str(folder), self._module)
        environment = {**os.environ, "PYTHONUNBUFFERED": "1", "NO_COLOR": "1", "COLUMNS": "160"}
        with (folder / "log").open("wb") as log:
            child = subprocess.Popen(  # noqa: S603
                [*runner, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                env=environment,
            )
        self._children.append(child)
        return child

    def _wait_for_lock(self, child: subprocess.Popen[bytes]) -> None:
        until = time.monotonic() + _STARTED_SECONDS
        while child.poll() is None and self._holder() != child.pid:
            if time.monotonic() > until:
                raise BenchError("the job does not start", "look into its log, and repeat")
            time.sleep(0.02)

    def _list(self) -> list[Job]:
        # A child that has ended stays in the system's list until its parent has looked.
        self._children = [each for each in self._children if each.poll() is None]
        running = self._running()
        found = (_read(path.parent, running) for path in self._root.glob("*/job.json"))
        known = (each for each in found if each is not None)
        return sorted(known, key=lambda each: each.started, reverse=True)

    def _running(self) -> int | None:
        """The process that holds the lock; None where none does."""
        from filelock import FileLock, Timeout

        lock = self._root / LOCK
        if not lock.exists():
            return None
        try:
            with FileLock(lock, timeout=0):
                return None
        except Timeout:
            return self._holder()

    def _holder(self) -> int | None:
        return _json(self._root / LOCK.replace(".lock", ".json")).get("pid")


def _read(folder: Path, running: int | None) -> Job | None:
    about, ended = _json(folder / "job.json"), _json(folder / ENDED)
    try:
        pid, started = int(about["pid"]), float(about["started"])
        arguments = tuple(map(str, about["arguments"]))
    except (KeyError, TypeError, ValueError):
        return None
    states = {None: JobState.RUNNING if pid == running else JobState.KILLED, 0: JobState.DONE}
    states |= dict.fromkeys(_STOPPED, JobState.STOPPED)
    state = states.get(ended.get("code"), JobState.FAILED)
    return Job(folder.name, folder, arguments, pid, started, state, ended.get("ended"))


def _json(path: Path) -> dict[str, Any]:
    """The object in a file; {} where there is none."""
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
