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
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from domainlift.workspace import Workspace

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
        _make(Workspace(workspace).runs / name, count, helped=name == "after")
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


def _make(folder: Path, count: int, *, helped: bool) -> None:
    folder.mkdir(parents=True)
    dice = random.Random(int(helped))
    with (folder / "questions.jsonl").open("w", encoding="utf-8") as file:
        for n in range(count):
            file.write(json.dumps(_question(n)) + "\n")
    with (folder / "answers.jsonl").open("w", encoding="utf-8") as file:
        for n in range(count):
            file.write(json.dumps(_answer(n, dice, helped)) + "\n")
    (folder / "manifest.json").write_text(json.dumps(_manifest(folder.name, count)))


def _question(n: int) -> dict[str, Any]:
    return {
        "id": f"{n:016x}",
        "domain": f"domain {n % _DOMAINS}",
        "task": "made",
        "text": f"What is to be said of number {n}, " + "which is a number like many others, " * 8,
        "options": _OPTIONS,
        "answer": n % 4,
        "cluster": "",
        "split": "test",
        "support": f"documents/{n % 500}.md",
    }


def _answer(n: int, dice: random.Random, helped: bool) -> dict[str, Any]:
    logs = [-dice.expovariate(0.5) for _ in range(4)]
    logs[n % 4] += 1.0 + 0.4 * helped
    chosen = logs.index(max(logs))
    row: dict[str, Any] = {
        "id": f"{n:016x}",
        "domain": f"domain {n % _DOMAINS}",
        "task": "made",
        "status": "ok",
        "correct": chosen == n % 4,
        "chosen": chosen,
        "logprobs": [round(value, 6) for value in logs],
        "prompt_tokens": 80 + n % 50,
        "seconds": 0.01,
        "searched": False,
    }
    if n % 100 == 0:
        row["text"] = "so it is <b>said</b> " * 1000
    return {**row, **_help(n)} if helped else row


def _help(n: int) -> dict[str, Any]:
    found = [
        {
            "id": f"c{n + k}",
            "source": "A page",
            "place": f"documents/{(n + k) % 500}.md",
            "dense": 0.5,
        }
        for k in range(3)
    ]
    route = f"domain {n % _DOMAINS}" if n % 5 else ""
    given = ["c" + str(n)] if n % 2 else []
    return {
        "treatment": "rag" if given else "base: sure without passages",
        "passages": given,
        "searched": True,
        "retrieved": found,
        "route": route,
        "decided_by": "keywords" if route else "base",
        "matched": ["number"],
    }


def _manifest(run: str, count: int) -> dict[str, Any]:
    return {
        "run": run,
        "model": "made",
        "suite": "made",
        "fingerprint": {"model": "m", "treatment": run, "questions": "q"},
        "settings": {"command": "bench run", "treatment": run},
        "engine": {"name": "made", "options": {}},
        "versions": {},
        "questions": count,
        "created": "2026-01-01T00:00:00+00:00",
        "finished": True,
    }


if __name__ == "__main__":
    main()
