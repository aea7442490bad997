"""Training the adapters of several domains one after the other, against all in one pass.

python -m perf.together
python -m perf.together --domains biology history --set steps=100 --repeats 2

The whole command (`bench train`, with and without `--together`) on the embedded model, each way in
a process and a workspace of its own over the same prepared rows, turn by turn; the faster of each
counts. Training is the time of steps, validations and checkpoints, without loading the model and
asking it what it knows before. Processor time is the whole command's, on all cores: other programs
slow it down less (0 on Windows).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from perf.commands import bench

_WAYS: dict[str, list[str]] = {"one after the other": [], "together": ["--together"]}


@dataclass(frozen=True)
class Timed:
    """One command: its seconds, those of all processors, and what it printed of each adapter."""

    seconds: float
    busy: float
    adapters: list[dict[str, Any]]

    @property
    def training(self) -> float:
        """Seconds of steps, validations and checkpoints."""
        return sum(float(each["seconds"]) for each in self.adapters)


def main() -> None:
    """Train both ways, and print the table."""
    parser = argparse.ArgumentParser(description="several domains in one pass")
    parser.add_argument("--domains", nargs="+", default=["biology", "history", "security"])
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--set", dest="change", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--repeats", type=int, default=1)
    settings = parser.parse_args()
    found: dict[str, list[Timed]] = {way: [] for way in _WAYS}
    with TemporaryDirectory() as folder:
        rows = Path(folder, "rows")
        bench(rows, "data", "prepare", *settings.domains, "--own")
        for repeat in range(settings.repeats):
            for way in _WAYS:
                own = Path(folder, f"{way.split()[0]}-{repeat}")
                shutil.copytree(rows, own)
                found[way].append(_train(own, _WAYS[way], settings))
    _table({way: min(each, key=lambda run: run.seconds) for way, each in found.items()})


def _train(workspace: Path, way: list[str], settings: Any) -> Timed:
    changes = [word for change in settings.change for word in ("--set", change)]
    given = ["--model", settings.model, "--json"]
    begun, busy = time.perf_counter(), _busy()
    said = bench(workspace, "train", *settings.domains, *given, *changes, *way)
    spent = time.perf_counter() - begun, _busy() - busy
    return Timed(*spent, [json.loads(line) for line in said.splitlines()])


def _busy() -> float:
    """Processor seconds of all processes that were started here and have ended."""
    return os.times().children_user + os.times().children_system


def _table(found: dict[str, Timed]) -> None:
    apart, together = found.values()
    names = [each["adapter"] for each in apart.adapters]
    titles = [f"{name} (n = {_score(apart, name)['n']})" for name in names]
    print("|  | command, s | training, s | processors, s | " + " | ".join(titles) + " |")
    print("|---|---|---|---|" + "---|" * len(names))
    for way, each in found.items():
        scores = " | ".join(_shown(each, name) for name in names)
        times = " | ".join(f"{value:.1f}" for value in _times(each))
        print(f"| {way} | {times} | {scores} |")
    pairs = zip(_times(apart), _times(together), strict=True)
    ratios = " | ".join(f"{one / max(other, 1e-9):.2f}" for one, other in pairs)
    print(f"| ratio | {ratios} |" + "  |" * len(names))
    steps = ", ".join(f"{each['adapter']} {each['steps']}" for each in together.adapters)
    print(f"\nSteps: {steps}. Accuracies on validation questions: base → adapter, step kept.")


def _times(run: Timed) -> tuple[float, float, float]:
    return run.seconds, run.training, run.busy


def _shown(run: Timed, name: str) -> str:
    score = _score(run, name)
    step = next(each["best_step"] for each in run.adapters if each["adapter"] == name)
    return f"{score['base']:.3f} → {score['adapter']:.3f}, {step}"


def _score(run: Timed, name: str) -> dict[str, Any]:
    found = next(each for each in run.adapters if each["adapter"] == name)
    return dict(found["validation"][name])


if __name__ == "__main__":
    main()
