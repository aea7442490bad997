"""Commands of `bench` as the scripts here call them, their memory, and cells of their tables."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def bench(workspace: Path, *words: str) -> str:
    """Run one command in a process of its own; its stdout. Ends the script with its error."""
    command = [sys.executable, "-W", "ignore", "-m", "bench", *words]
    done = subprocess.run(
        [*command, "--workspace", str(workspace)], capture_output=True, encoding="utf-8"
    )
    if done.returncode:
        sys.exit(f"error: `bench {' '.join(words)}` ended with {done.returncode}\n{done.stderr}")
    return done.stdout


def bench_json(workspace: Path, *words: str) -> dict[str, Any]:
    """Run one command with `--json`; the object that it prints."""
    found: dict[str, Any] = json.loads(bench(workspace, *words, "--json"))
    return found


def measure_apart(module: str, *words: str) -> dict[str, Any]:
    """Run one side of a comparison in a process of its own; the object on its last line."""
    command = [sys.executable, "-W", "ignore", "-m", module, *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, encoding="utf-8")
    if done.returncode:
        sys.exit(f"error: `{' '.join(command[3:])}` ended with {done.returncode}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    return found


def heading(*titles: str) -> str:
    """The first two lines of a table."""
    return f"| {' | '.join(titles)} |\n|{'---|' * len(titles)}"


def line(*cells: object) -> str:
    """One row of a table."""
    return f"| {' | '.join(map(str, cells))} |"


def rate(score: Mapping[str, Any]) -> str:
    """An accuracy with its interval, out of `--json`."""
    low, high = score["interval"]
    return f"{score['accuracy']:.3f} [{low:.3f}, {high:.3f}]"


def gain(change: Mapping[str, Any]) -> str:
    """A paired difference with its interval, out of `--json`."""
    low, high = change["interval"]
    return f"{change['difference']:+.3f} [{low:+.3f}, {high:+.3f}]"
