"""Start-up: `bench --help`, and from the command to the first stored answer.

python -m perf.startup
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from pathlib import Path

_RUNS = 10


def main() -> None:
    """Time both and print one table."""
    helped = [_seconds([sys.executable, "-m", "bench", "--help"]) for _ in range(_RUNS)]
    bare = [_seconds([sys.executable, "-c", "pass"]) for _ in range(_RUNS)]
    first = [_first_answer() for _ in range(3)]
    print("|  | min s | median s |\n|---|---|---|")
    for label, times in (
        ("an empty Python", bare),
        ("`bench --help`", helped),
        ("`bench run --model tiny` to the first answer", first),
    ):
        print(f"| {label} | {min(times):.2f} | {sorted(times)[len(times) // 2]:.2f} |")


def _seconds(command: list[str]) -> float:
    start = time.perf_counter()
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - start


def _first_answer() -> float:
    with tempfile.TemporaryDirectory() as workspace:
        command = ["run", "--model", "tiny", "--suite", "demo", "--workspace", workspace]
        start = time.perf_counter()
        process = subprocess.Popen(
            [sys.executable, "-m", "bench", *command],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        while not any(p.stat().st_size for p in Path(workspace).glob("runs/*/answers.jsonl")):
            if process.poll():
                sys.exit("error: the run failed; see `bench run --model tiny --suite demo`")
            time.sleep(0.005)
        seconds = time.perf_counter() - start
        process.wait()
    return seconds


if __name__ == "__main__":
    main()
