"""Gains and losses of adapters of the embedded model on the demo's test questions.

python -m perf.adapters [--workspace FOLDER]

One adapter each for biology, history and security, and two for all three together, with one and two
rows of what is known per new row. Each answers *all* questions, so that what it costs elsewhere is
seen; a router would keep it from them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from perf.commands import bench, bench_json

_WEAK = ("biology", "history", "security")
_RECIPE = "proportions: {{biology: 0.34, history: 0.33, security: 0.33}}\nreplay: {}\n"
_REPLAY = {"all-three": 1, "all-three-2": 2}


def main() -> None:
    """Train and score, and print the table."""
    parser = argparse.ArgumentParser(description="what adapters learn, and what they cost")
    parser.add_argument("--workspace", type=Path)
    folder = parser.parse_args().workspace
    if folder is not None:
        _measure(folder)
        return
    with TemporaryDirectory() as made:
        _measure(Path(made))


def _measure(workspace: Path) -> None:
    workspace.mkdir(parents=True, exist_ok=True)
    bench(workspace, "data", "prepare", *_WEAK, "--own")
    print("| adapter | s | domain | n | base | adapter | difference | 95 % interval | p |")
    print("|---|---|---|---|---|---|---|---|---|")
    for name in (*_WEAK, *_REPLAY):
        more = () if name in _WEAK else ("--recipe", str(_recipe(workspace, name)))
        start = time.perf_counter()
        bench(workspace, "train", name, "--model", "tiny", *more)
        seconds = time.perf_counter() - start
        argv = ("run", "--model", "tiny", "--suite", "demo", "--adapter", name)
        _show(name, seconds, bench_json(workspace, *argv))


def _recipe(workspace: Path, name: str) -> Path:
    path = workspace / f"{name}.yaml"
    path.write_text(_RECIPE.format(_REPLAY[name]), encoding="utf-8")
    return path


def _show(name: str, seconds: float, outcome: dict[str, Any]) -> None:
    for domain, change in outcome["paired"].items():
        if not domain:
            continue
        interval = change["interval"]
        low, high = interval
        before, after = (
            outcome["treatments"][each]["domains"][domain]["accuracy"] for each in ("base", "lora")
        )
        print(
            f"| {name} | {seconds:.0f} | {domain} | {change['n']} | {before:.3f} | {after:.3f} "
            f"| {change['difference']:+.3f} | [{low:+.3f}, {high:+.3f}] | {change['p']:.3f} |",
            flush=True,
        )


if __name__ == "__main__":
    main()
