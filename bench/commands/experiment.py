"""`bench experiment`: a command and its options in one file, with a sweep over them."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.commands.compare import compare_command
from bench.commands.export import export_command
from bench.experiment_file import Experiment, read_experiment
from bench.options import WORKSPACE, Json, command_group
from domainlift.errors import Misuse, NoSuch
from domainlift.hints import name_workspace
from domainlift.stats.formatting import accuracy
from ensemble.plan import read_plan
from finetune.axolotl import export_config, import_config
from reports.sanitize import line
from reports.terminal import print_json, print_line, print_note, print_table

experiment = command_group("Run a command and its options from one file.")
File = Annotated[Path, typer.Argument(help="A YAML file: see `--print-config` of a command.")]
To = Annotated[str, typer.Option(help="axolotl.")]


@experiment.command("run")
def run_experiment(file: File, as_json: Json = False) -> None:
    """Run the command of a file, each variant of its sweep, and export what it names.

    Example: bench experiment run experiment.yaml
    """
    read = read_experiment(file)
    if "workspace" in read.options:
        name_workspace(_workspace(read))
    if not read.sweep and not read.export:
        read.run(as_json=as_json)
        return
    rows = []
    variants = read.variants()
    for number, (label, variant) in enumerate(variants, 1):
        print_note(f"{number} of {len(variants)}: {label or read.command}")
        results = [json.loads(text) for text in _printed(variant)]
        exports = [e for name in _adapters(results) for e in _exported(name, variant)]
        rows.append({"variant": label, "results": results, "exports": exports})
    if as_json:
        print_json({"command": read.command, "variants": rows})
        return
    _show(rows)
    if read.command == "run" and len(rows) > 1:
        runs = [result["run"] for row in rows for result in row["results"]]
        try:
            compare_command(runs, workspace=_workspace(read))
        except Misuse as error:  # they are one run, or share no question
            print_note(f"not compared in pairs: {error.what}")


@experiment.command("export")
def export_experiment(file: File, to: To = "axolotl") -> None:
    """Print a training as the configuration of another program.

    What has no counterpart there is named on stderr.

    Example: bench experiment export experiment.yaml --to axolotl
    """
    _only_axolotl(to)
    read = read_experiment(file)
    if read.command != "train":
        raise Misuse(f"`{file}` is no training", "export a file with `command: train`")
    text, left_out = export_config(read.options)
    for key in left_out:
        print_note(f"`{key}` has no counterpart in axolotl")
    print(text, end="")


@experiment.command("import")
def import_experiment(file: File, to: Annotated[str, typer.Option("--from")] = "axolotl") -> None:
    """Print the configuration of another program's training as an experiment.

    What has no counterpart here is named on stderr.

    Example: bench experiment import axolotl.yaml
    """
    _only_axolotl(to)
    text, left_out = import_config(file)
    for key, why in left_out.items():
        print_note(f"`{line(key, 60)}` has no counterpart: {why}")
    print(text, end="")


def _only_axolotl(name: str) -> None:
    if name != "axolotl":
        raise NoSuch("program", name, ["axolotl"])


def _printed(variant: Experiment) -> list[str]:
    """The lines of JSON that a command prints."""
    said = StringIO()
    with redirect_stdout(said):
        variant.run(as_json=True)
    return said.getvalue().splitlines()


def _adapters(results: Sequence[dict[str, Any]]) -> list[str]:
    """The adapters that were trained, or that a plan names."""
    names = [f"{each['adapter']}/{each['version']}" for each in results if "adapter" in each]
    for result in results:
        if result.get("plan"):
            treated = read_plan(Path(result["plan"])).domains.values()
            names += [each.adapter for each in treated if each.adapter]
    return names


def _exported(name: str, variant: Experiment) -> list[dict[str, Any]]:
    said = StringIO()
    with redirect_stdout(said):
        for kind in variant.export:
            export_command(name, kind, workspace=_workspace(variant), as_json=True)
    return [json.loads(text) for text in said.getvalue().splitlines()]


def _workspace(read: Experiment) -> Path:
    return Path(read.options.get("workspace", os.environ.get("BENCH_WORKSPACE", WORKSPACE)))


def _show(rows: Sequence[dict[str, Any]]) -> None:
    """Print what each variant gave, by domain, and where its adapters went."""
    cells = [
        (line(row["variant"], 60) or "-", *cell)
        for row in rows
        for result in row["results"]
        for cell in _scores(result)
    ]
    columns = ("variant", "made", "domain", "n", "base", "score")
    print_table(columns, cells, right=columns[3:])
    for row in rows:
        for made in row["exports"]:
            print_line(f"{made['kind']}: {made['path']}")
    if len(rows) > 1 and "adapter" in rows[0]["results"][0]:
        print_line("On validation questions, which choose; `bench run --adapter` proves it.")


def _scores(result: dict[str, Any]) -> list[tuple[str, ...]]:
    if "adapter" in result:
        name = f"{result['adapter']}/{result['version']}"
        return [
            (name, domain, str(s["n"]), accuracy(s["base"]), accuracy(s["adapter"]))
            for domain, s in result["validation"].items()
        ]
    if "verdict" in result and "plan" in result:
        return [(str(result["plan"]), result["verdict"], "-", "-", "-")]
    return [
        (result["run"], domain, str(s["n"]), "-", accuracy(s["accuracy"]))
        for domain, s in result["domains"].items()
    ]
