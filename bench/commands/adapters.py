"""`bench adapters`, and the adapters of a run."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.options import WORKSPACE, Json, WorkspaceOption, comma_separated
from domainlift.errors import Misuse
from domainlift.text.display import printable
from domainlift.workspace import Workspace
from improve.arms import AdaptersByDomain

if TYPE_CHECKING:
    from collections.abc import Collection

    from engines.base import Engine

#: The name that stands for the newest adapter of each question's own domain.
OWN = "own"

adapters = typer.Typer(
    help="List, show and remove trained adapters.", no_args_is_help=True, rich_markup_mode=None
)
Name = Annotated[str, typer.Argument(help="DOMAIN (its newest), DOMAIN/VERSION, or a folder.")]


def adapters_by_domain(
    names: str, engine: Engine, workspace: Path, domains: Collection[str]
) -> AdaptersByDomain:
    """Load the adapters that a user names, and say which question gets which.

    One name is for every question; several, or `own`, are each for the questions of their domain.
    """
    wanted = comma_separated(names)
    if engine.info.engine == "openai":
        # A server knows its adapters by names of its own, and has loaded them already.
        if len(wanted) != 1:
            raise Misuse("over a server one adapter is named", "give the name that it serves")
        return AdaptersByDomain({"": wanted[0]}, wanted[0])
    return _loaded(wanted, engine, workspace, domains)


def _loaded(
    wanted: tuple[str, ...], engine: Engine, workspace: Path, domains: Collection[str]
) -> AdaptersByDomain:
    from finetune.adapters import registry as registry

    known = registry.AdapterRegistry(Workspace(workspace).adapters)
    own = wanted == (OWN,)
    if own:
        wanted = tuple(sorted({name.split("/")[0] for name in known.list()} & set(domains)))
    if not wanted:
        raise Misuse("no domain that is asked has an adapter", "`bench adapters list` shows all")
    names, digests = {}, []
    for name in wanted:
        found = known.open(name)
        domain = found.card.domain if own or len(wanted) > 1 else ""
        names[domain] = registry.load_adapter_into(engine, found)
        digests.append(found.digest)
    return AdaptersByDomain(names, hashlib.sha256("".join(digests).encode()).hexdigest())


@adapters.command("list")
def list_adapters(workspace: WorkspaceOption = WORKSPACE, as_json: Json = False) -> None:
    """List all adapters.

    Example: bench adapters list
    """
    from finetune.adapters import registry as registry

    known = registry.AdapterRegistry(Workspace(workspace).adapters)
    cards = {name: known.show(name) for name in known.list()}
    if as_json:
        rows = [{"name": name, **asdict(card)} for name, card in cards.items()]
        print(json.dumps(rows, ensure_ascii=False))
        return
    from rich.text import Text

    from reports.terminal import console, table

    grid = table("adapter", "method", "base", "created")
    for name, card in cards.items():
        cells = (name, card.method, card.base, card.created)
        grid.add_row(*(Text(printable(cell)) for cell in cells))
    console().print(grid)


@adapters.command("show")
def show_adapter(name: Name, workspace: WorkspaceOption = WORKSPACE, as_json: Json = False) -> None:
    """Show how an adapter was made, and what it scored.

    Example: bench adapters show biology
    """
    from finetune.adapters import registry as registry

    found = registry.AdapterRegistry(Workspace(workspace).adapters).open(name)
    if as_json:
        print(json.dumps({"name": found.name, **asdict(found.card)}, ensure_ascii=False))
        return
    for line in (found.folder / registry.README).read_text(encoding="utf-8").splitlines():
        print(printable(line))


@adapters.command("rm")
def remove_adapters(
    name: Annotated[list[str], typer.Argument(help="DOMAIN/VERSION.")],
    workspace: WorkspaceOption = WORKSPACE,
) -> None:
    """Remove versions of adapters for good.

    Example: bench adapters rm biology/v0001
    """
    from finetune.adapters import registry as registry

    known = registry.AdapterRegistry(Workspace(workspace).adapters)
    for each in name:
        known.remove(each)
        print(f"removed `{each}`")
