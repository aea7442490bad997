"""`bench compare` on two large runs: seconds, peak memory, and the size of the page.

python -m perf.compare
python -m perf.compare --questions 1000 10000 100000

The runs are made up: four options, 57 domains, three retrieved passages per question of the
candidate, of which half let them in, and a router's decision. Every hundredth answer is a text of
20,000 characters. Each row is the command in a process of its own; peak memory is the kernel's
figure of that process (Linux and macOS).
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.runs.store import Record, RunManifest, RunStore
from domainlift.types import Question

_DOMAINS = 57
_MIB = 2**20
_OPTIONS = ("the first option", "the second one", "another", "none of these")


def main() -> None:
    """Make the runs, compare them in several ways and print one table."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--questions", type=int, nargs="+", default=[10_000, 100_000])
    print("| questions | files, MiB | command | s | CPU s | peak memory, MiB | page, KB |")
    print("|---|---|---|---|---|---|---|")
    for count in parser.parse_args().questions:
        with tempfile.TemporaryDirectory() as folder:
            _measure(Path(folder), count)


def _measure(workspace: Path, count: int) -> None:
    for name in ("before", "after"):
        _make(RunStore(workspace), name, count, helped=name == "after")
    size = sum(path.stat().st_size for path in workspace.rglob("*.jsonl")) / _MIB
    page = workspace / "page.html"
    for words in ([], ["--json"], ["--flips", str(workspace / "flips.jsonl")]):
        page.unlink(missing_ok=True)
        seconds, busy, peak = _run(workspace, [*words, "--html", str(page)])
        told = " ".join(["bench compare", *words[:1]])
        kilobytes = page.stat().st_size / 1000
        times = f"{seconds:.1f} | {busy:.1f}"
        print(f"| {count:,} | {size:.0f} | `{told}` | {times} | {peak:.0f} | {kilobytes:.0f} |")


def _run(workspace: Path, words: list[str]) -> tuple[float, float, float]:
    command = [sys.executable, "-m", "bench", "compare", "before", "after", *words]
    start = time.perf_counter()
    process = subprocess.Popen(
        [*command, "--workspace", str(workspace)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        sys.exit(f"error: `{' '.join(command)}` failed")
    unit = 1 if sys.platform == "darwin" else 1024
    seconds, busy = time.perf_counter() - start, usage.ru_utime + usage.ru_stime
    return seconds, busy, usage.ru_maxrss * unit / _MIB


def _make(store: RunStore, name: str, count: int, *, helped: bool) -> None:
    dice = random.Random(int(helped))
    manifest = RunManifest(
        run=name,
        model="made",
        suite="made",
        fingerprint={"model": "m", "treatment": name, "questions": "q"},
        settings={"command": "bench run", "treatment": name},
        engine={"name": "made", "options": {}},
        versions={},
        questions=count,
        created="2026-01-01T00:00:00+00:00",
        finished=True,
    )
    with store.create(manifest, map(_question, range(count))).writing() as run:
        for n in range(count):
            record = _record(n, dice, helped)
            run.append(replace(record, **_help(n)) if helped else record)


def _question(n: int) -> Question:
    text = f"What is to be said of number {n}, " + "which is a number like many others, " * 8
    support = f"documents/{n % 500}.md"
    return Question(
        f"{n:016x}", f"domain {n % _DOMAINS}", "made", text, _OPTIONS, n % 4, support=support
    )


def _record(n: int, dice: random.Random, helped: bool) -> Record:
    logs = [-dice.expovariate(0.5) for _ in range(4)]
    logs[n % 4] += 1.0 + 0.4 * helped
    chosen = logs.index(max(logs))
    return Record(
        *(f"{n:016x}", f"domain {n % _DOMAINS}", "made", "ok", chosen == n % 4, chosen),
        logprobs=tuple(round(value, 6) for value in logs),
        prompt_tokens=80 + n % 50,
        seconds=0.01,
        text="so it is <b>said</b> " * 1000 if n % 100 == 0 else None,
    )


def _help(n: int) -> dict[str, Any]:
    places = ((f"c{n + k}", f"documents/{(n + k) % 500}.md") for k in range(3))
    found = [{"id": id_, "source": "A page", "place": at, "dense": 0.5} for id_, at in places]
    route = f"domain {n % _DOMAINS}" if n % 5 else ""
    return {
        "treatment": "rag" if n % 2 else "base: sure without passages",
        "passages": (f"c{n}",) if n % 2 else (),
        "searched": True,
        "retrieved": tuple(found),
        "route": route,
        "decided_by": "keywords" if route else "base",
        "matched": ("number",),
    }


if __name__ == "__main__":
    main()
