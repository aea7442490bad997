"""A run of its own process, to be killed: `python fake_run.py WORKSPACE QUESTIONS DELAY`."""

from __future__ import annotations

import sys
from pathlib import Path

from fake_engine import FakeEngine, task

from benchmarks.runs.runner import EvalSettings, execute_run, open_run, prepare_job
from benchmarks.runs.store import RunStore
from domainlift.errors import BenchError


def main(workspace: str, questions: str, delay: str, seed: str = "0") -> int:
    """Run to the end, as often as it takes."""
    engine = FakeEngine(delay=float(delay))
    limit = None if seed == "0" else 100
    settings = EvalSettings("fakes", limit=limit, seed=int(seed))
    tasks = [task(int(questions), domains=("biology", "history", "law"), shots=2)]
    job = prepare_job(tasks, settings, engine.info)
    run = open_run(job, engine.info, RunStore(Path(workspace)))
    print("ready", flush=True)
    try:
        execute_run(job, engine, run, lambda _: None)
    except BenchError as error:
        print(f"error: {error.what} | {error.hint}", flush=True)
        return error.exit_code
    print(run.folder.name, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
