"""Chosen rows against random ones and all rows: what a part of the rows teaches.

python -m perf.rows [--model tiny] [--domains biology history security] [--share 0.2] [--pooled]

All rows, a share of them chosen as `bench train --rows` chooses, and as many random ones are
trained on with the same number of passes. Rows are chosen by validation questions, and the gains
are those on test questions. With `--pooled` every domain chooses from the rows of all domains.
"""

from __future__ import annotations

import argparse
import random
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from domainlift.workspace import Workspace
from finetune.data.row_io import load_rows, row_lines
from perf.commands import bench, bench_json

if TYPE_CHECKING:
    from collections.abc import Sequence

    from finetune.data.rows import Row


def main() -> None:
    """Train and score, and print the table."""
    parser = argparse.ArgumentParser(description="what chosen rows teach")
    parser.add_argument("--model", default="tiny")
    parser.add_argument("--domains", nargs="+", default=["biology", "history", "security"])
    parser.add_argument("--task", nargs="+", help="the test questions [default: the suite demo]")
    parser.add_argument("--share", type=float, default=0.2)
    parser.add_argument("--seeds", type=int, default=1, help="of the random rows")
    parser.add_argument("--set", nargs="*", default=[], help="settings of the trainings")
    parser.add_argument("--pooled", action="store_true", help="rows of all domains for each")
    parser.add_argument("--all", action="store_true", help="with rows from elsewhere, too")
    parser.add_argument("--workspace", type=Path)
    chosen = parser.parse_args()
    with TemporaryDirectory() as made:
        _Measurement(chosen, chosen.workspace if chosen.workspace is not None else Path(made)).run()


class _Measurement:
    """One model, some domains; every training and run is a command of its own."""

    def __init__(self, chosen: argparse.Namespace, workspace: Path) -> None:
        self._chosen = chosen
        self._workspace = workspace

    def run(self) -> None:
        print("| domain | rows | n | base | adapter | gain | 95 % interval | of all rows' gain |")
        print("|---|---|---|---|---|---|---|---|")
        for domain in self._chosen.domains:
            self._prepare(domain)
        if self._chosen.pooled:
            self._write("pool", [row for each in self._chosen.domains for row in self._rows(each)])
        for domain in self._chosen.domains:
            source = "pool" if self._chosen.pooled else domain
            rows = self._rows(source)
            few = max(1, round(self._chosen.share * len(rows)))
            whole = self._measure(domain, f"{len(rows)} all", None, source)
            self._measure(domain, f"{few} chosen", whole, source, "--rows", str(few))
            for seed in range(self._chosen.seeds):
                name = f"{source}-random-{few}-{seed}"
                self._write(name, random.Random(seed).sample(rows, few))
                self._measure(domain, f"{few} random", whole, name)

    def _prepare(self, domain: str) -> None:
        if not Workspace(self._workspace).data_set(domain).is_dir():
            bench(
                self._workspace, "data", "prepare", domain, *([] if self._chosen.all else ["--own"])
            )

    def _rows(self, name: str) -> list[Row]:
        return load_rows(Workspace(self._workspace).data_set(name))

    def _write(self, name: str, rows: Sequence[Row]) -> None:
        """A data set of these rows, without validation rows."""
        folder = Workspace(self._workspace).data_set(name)
        folder.mkdir(exist_ok=True)
        (folder / "train.jsonl").write_text(row_lines(rows), encoding="utf-8")

    def _measure(
        self, domain: str, label: str, whole: float | None, source: str, *limits: str
    ) -> float:
        model = ("--model", self._chosen.model)
        settings = [word for each in self._chosen.set for word in ("--set", each)]
        bounds = limits if limits else ("--budget-minutes", "100000")
        where = ("--data-set", source, "--all" if self._chosen.all else "--own")
        bench(self._workspace, "train", domain, *model, *bounds, *settings, *where)
        tasks = self._chosen.task if self._chosen.task is not None else [f"own:{domain}"]
        asked = [word for task in tasks for word in ("--task", task)]
        argv = ("run", *model, *asked, "--adapter", domain)
        return _show(domain, label, whole, bench_json(self._workspace, *argv))


def _show(domain: str, label: str, whole: float | None, outcome: dict[str, Any]) -> float:
    change = outcome["paired"][domain]
    low, high = change["interval"]
    before, after = (
        outcome["treatments"][each]["domains"][domain]["accuracy"] for each in ("base", "lora")
    )
    gain = float(change["difference"])
    part = f"{gain / whole:.2f}" if whole else ""
    print(
        f"| {domain} | {label} | {change['n']} | {before:.3f} | {after:.3f} | {gain:+.3f} "
        f"| [{low:+.3f}, {high:+.3f}] | {part} |",
        flush=True,
    )
    return gain


if __name__ == "__main__":
    main()
