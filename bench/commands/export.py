"""`bench export`: an adapter where people run models, checked against what was evaluated."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from itertools import product, zip_longest
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.commands.adapters import Name
from bench.options import WORKSPACE, Data, Json, WorkspaceOption
from benchmarks.tasks.base import Task
from benchmarks.tasks.registry import load_task
from domainlift.errors import BenchError, Misuse, NoSuch
from domainlift.sampling import stratified
from domainlift.text.display import printable
from domainlift.types import Split
from domainlift.workspace import Workspace
from finetune.adapters.registry import Adapter, AdapterRegistry
from finetune.data.sources.questions import prompt_completion
from finetune.export.base import ExportOptions
from finetune.export.exporting import Exported
from finetune.export.exporting import export_adapter as write
from finetune.export.registry import TARGETS
from finetune.export.verify import PROMPTS, Check
from knowledge_bases.domains import Domain, load_domains
from reports.terminal import print_json, print_note

_PROMPTS = 16
_GGUF = ("gguf-lora", "gguf", "ollama")
#: The targets that an option bears on; others would ignore it in silence.
_CONCERNS = {
    "--base-gguf": _GGUF,
    "--stored": _GGUF,
    "--name": ("ollama",),
}


def export_command(
    adapter: Name,
    to: Annotated[str, typer.Option(help=f"One of {', '.join(TARGETS)}.")],
    base: Annotated[
        str | None, typer.Option(help="The base model's folder or name. [default: the card's]")
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(help="A new folder. [default: exports/DOMAIN-VERSION-KIND in the workspace]"),
    ] = None,
    base_gguf: Annotated[
        Path | None,
        typer.Option(exists=True, dir_okay=False, help="A GGUF of the base model to build on."),
    ] = None,
    stored: Annotated[
        str | None, typer.Option(help="How a GGUF holds weights: f16, q8_0 or f32. [default: f16]")
    ] = None,
    name: Annotated[
        str | None, typer.Option(help="Of the model in Ollama. [default: DOMAIN-VERSION]")
    ] = None,
    workspace: WorkspaceOption = WORKSPACE,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Write an adapter for the place where models are run, and check that it answers as before.

    Example: bench export biology --to gguf-lora
    """
    _check_options(to, {"--base-gguf": base_gguf, "--stored": stored, "--name": name})
    found = AdapterRegistry(Workspace(workspace).adapters).open(adapter)
    options = ExportOptions(
        stored=stored if stored is not None else "f16",
        base_gguf=base_gguf,
        prompts=_prompts(found.card.domain, workspace, data),
        name=name if name is not None else "",
    )
    model = base if base is not None else found.card.base
    folder = out if out is not None else _folder(workspace, found, to)
    result = _result(write(found, model, to, folder, options))
    if as_json:
        print_json(result)
    else:
        _say(found.name, result)


def _check_options(to: str, given: Mapping[str, object]) -> None:
    """Raise Misuse for options that say nothing together."""
    if to not in TARGETS:
        raise NoSuch("kind of export", to, TARGETS)
    for option, value in given.items():
        if value is not None and to not in _CONCERNS[option]:
            kinds = " or ".join(f"`--to {kind}`" for kind in _CONCERNS[option])
            raise Misuse(f"`{option}` has no meaning here", f"it goes with {kinds}")
    if given["--stored"] is not None and given["--base-gguf"] is not None:
        raise Misuse("the file of `--base-gguf` says how weights are stored", "drop `--stored`")
    name = given["--name"]
    if name is not None and not re.fullmatch(r"\w[\w.:/-]*", str(name)):
        raise Misuse(f"`{name}` cannot name a model in Ollama", "use letters, digits, `-` and `.`")


def _result(made: Exported) -> dict[str, Any]:
    """What `--json` prints; figures are null where nothing could be checked."""
    check: Check | None = made.check
    return {
        "path": str(made.path),
        "kind": made.kind,
        "max_abs_delta_logprob": None if check is None else check.max_abs_delta_logprob,
        "agreement": None if check is None else check.agreement,
        "prompts": 0 if check is None else check.prompts,
        "tolerance": None if check is None else check.tolerance,
        "commands": list(made.commands),
        "notes": list(made.notes),
    }


def _folder(workspace: Path, adapter: Adapter, to: str) -> Path:
    return Workspace(workspace).export(f"{adapter.card.domain}-{adapter.card.version}-{to}")


def _prompts(name: str, workspace: Path, data: Path | None) -> Sequence[str]:
    """Questions of the domain as they are asked, where they are at hand."""
    domains = load_domains(workspace)
    columns = []
    for task in _tasks(domains[name], domains, data) if name in domains else ():
        sample = stratified(task.questions, _PROMPTS, seed=0)
        columns.append([prompt_completion(each, task)[0] for each in sample])
    # One of each task in turn, so that none goes without.
    prompts = [prompt for row in zip_longest(*columns) for prompt in row if prompt is not None]
    return prompts[:_PROMPTS] if prompts else PROMPTS


def _tasks(domain: Domain, domains: Mapping[str, Domain], data: Path | None) -> Iterator[Task]:
    """The domain's own tasks, and those of a mirror: nothing is fetched for a check."""
    splits: tuple[Split, ...] = ("validation", "test")
    at_hand = [task for task in domain.tasks if data is not None or task.startswith("own:")]
    for task, split in product(at_hand, splits):
        with suppress(BenchError):  # it has no such split, or is not in the mirror
            yield load_task(task, data=data, domains=domains, split=split)


def _say(name: str, result: Mapping[str, Any]) -> None:
    print(printable(f"{name} ({result['kind']}): {result['path']}"))
    if result["prompts"]:
        print(
            f"max |Δ log-probability| {result['max_abs_delta_logprob']:.4f} nats "
            f"(tolerance {result['tolerance']:.4f}), same answer to {result['agreement']:.0%} "
            f"of {result['prompts']} prompts"
        )
    for note in result["notes"]:
        print_note(note)
    for command in result["commands"]:
        print(printable(f"next: {command}"))
