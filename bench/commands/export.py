"""`bench export`: an adapter where people run models, checked against what was evaluated."""

from __future__ import annotations

import json
import re
import sys
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
from finetune.adapters.model_card import is_hub_name
from finetune.adapters.registry import Adapter, AdapterRegistry
from finetune.data.sources.questions import prompt_completion
from finetune.export import hub as elsewhere
from finetune.export.base import ExportOptions
from finetune.export.exporting import Exported
from finetune.export.exporting import export_adapter as write
from finetune.export.registry import TARGETS
from finetune.export.verify import PROMPTS, Check
from finetune.export.verify_served import check_served
from knowledge_bases.domains import Domain, load_domains

_PROMPTS = 16
_GGUF = ("gguf-lora", "gguf", "ollama")
#: The targets that an option bears on; others would ignore it in silence.
_CONCERNS = {
    "--base-gguf": _GGUF,
    "--stored": _GGUF,
    "--name": ("ollama",),
    "--from": ("ollama",),
    "--upload": ("hub",),
}


def export_command(
    adapter: Name,
    to: Annotated[str | None, typer.Option(help=f"One of {', '.join(TARGETS)}.")] = None,
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
    ollama_from: Annotated[
        str | None,
        typer.Option("--from", help="The base model's tag in Ollama, for an adapter of its own."),
    ] = None,
    upload: Annotated[
        str | None, typer.Option(help="Put it on the hub as OWNER/NAME, in private.")
    ] = None,
    check_served: Annotated[
        str | None,
        typer.Option(help="Write nothing; check this model of a running Ollama instead."),
    ] = None,
    workspace: WorkspaceOption = WORKSPACE,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Write an adapter for the place where models are run, and check that it answers as before.

    Example: bench export biology --to gguf-lora
    """
    given = {
        "--base-gguf": base_gguf,
        "--stored": stored,
        "--name": name,
        "--from": ollama_from,
        "--upload": upload,
    }
    _check_options(to, check_served, given)
    found = AdapterRegistry(Workspace(workspace).adapters).open(adapter)
    options = ExportOptions(
        stored=stored if stored is not None else "f16",
        base_gguf=base_gguf,
        prompts=_prompts(found.card.domain, workspace, data),
        name=name if name is not None else "",
        ollama_from=ollama_from,
    )
    model = base if base is not None else found.card.base
    if to is None:
        result = _served(found, model, str(check_served), options)
    else:
        folder = out if out is not None else _folder(workspace, found, to)
        result = _exported(found, model, to, folder, options, upload)
    if as_json:
        print(json.dumps(result, ensure_ascii=False))
    else:
        _say(found.name, result)


def _check_options(to: str | None, served: str | None, given: Mapping[str, object]) -> None:
    """Raise Misuse for options that say nothing together."""
    if (to is None) == (served is None):
        raise Misuse("say what to write, or what to check", "`--to KIND` or `--check-served TAG`")
    if to is not None and to not in TARGETS:
        raise NoSuch("kind of export", to, TARGETS)
    for option, value in given.items():
        # The base model's tag there is what a served model is measured by.
        fine = to in _CONCERNS[option] or (to is None and option == "--from")
        if value is not None and not fine:
            kinds = " or ".join(f"`--to {kind}`" for kind in _CONCERNS[option])
            raise Misuse(f"`{option}` has no meaning here", f"it goes with {kinds}")
    if given["--stored"] is not None and given["--base-gguf"] is not None:
        raise Misuse("the file of `--base-gguf` says how weights are stored", "drop `--stored`")
    _check_names(given["--name"], given["--upload"])


def _check_names(name: object, repo: object) -> None:
    if name is not None and not re.fullmatch(r"\w[\w.:/-]*", str(name)):
        raise Misuse(f"`{name}` cannot name a model in Ollama", "use letters, digits, `-` and `.`")
    if repo is not None and not is_hub_name(str(repo)):
        raise Misuse(f"`{repo}` cannot name a repository", "write it as `OWNER/NAME`")


def _exported(
    adapter: Adapter, base: str, to: str, folder: Path, options: ExportOptions, upload: str | None
) -> dict[str, Any]:
    from dataclasses import replace

    if options.ollama_from is not None:
        options = replace(options, ollama_version=elsewhere.ollama_version())
    made = write(adapter, base, to, folder, options)
    if upload is not None:
        elsewhere.upload(made.path, upload)
        made = replace(made, commands=(), notes=(*made.notes, f"uploaded as `{upload}`"))
    return _result(made)


def _served(adapter: Adapter, base: str, tag: str, options: ExportOptions) -> dict[str, Any]:
    check = check_served(adapter, base, tag, options)
    return {**_result(Exported(check, kind="served")), "path": None}


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
    where = result["path"] if result["path"] is not None else "the model that Ollama serves"
    print(printable(f"{name} ({result['kind']}): {where}"))
    if result["prompts"]:
        print(
            f"max |Δ log-probability| {result['max_abs_delta_logprob']:.4f} nats "
            f"(tolerance {result['tolerance']:.4f}), same answer to {result['agreement']:.0%} "
            f"of {result['prompts']} prompts"
        )
    for note in result["notes"]:
        print(printable(f"note: {note}"), file=sys.stderr)
    for command in result["commands"]:
        print(printable(f"next: {command}"))
