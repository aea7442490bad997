"""The process of a job: `python -m serving.ui.job_process FOLDER MODULE ARGUMENT…`.

It runs the module as a program and writes how it ended. While it lives it holds the lock of all
jobs, which goes with it however it ends; so whoever looks can tell what is running.
"""

from __future__ import annotations

import runpy
import signal
import sys
import time
from pathlib import Path

from domainlift.errors import BenchError
from domainlift.files import exclusive_lock, write_json

LOCK, ENDED = "running.lock", "ended.json"


def run_job(folder: Path, module: str, arguments: list[str]) -> int:
    """Run a module in this process to its end; returns its exit code."""
    with exclusive_lock(folder.parent / LOCK, "another job", "wait for it, or stop it"):
        # Until the program has a handler of its own.
        signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))
        sys.argv = [module, *arguments]
        try:
            runpy.run_module(module, run_name="__main__", alter_sys=True)
            code = 0
        except SystemExit as ended:
            code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        write_json(folder / ENDED, {"code": code, "ended": time.time()})
    return code


if __name__ == "__main__":
    where = Path(sys.argv[1])
    try:
        sys.exit(run_job(where, sys.argv[2], sys.argv[3:]))
    except BenchError as error:
        print(f"error: {error.what}", file=sys.stderr, flush=True)
        write_json(where / ENDED, {"code": 1, "ended": time.time()})
        sys.exit(1)
