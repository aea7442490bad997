"""`bench adapters`, and the adapters of a run."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated

import typer

from bench.options import WORKSPACE, Json, WorkspaceOption, command_group
from domainlift.errors import Malformed
from domainlift.text.display import printable
from domainlift.workspace import Workspace
from finetune.adapters import registry as registry
from improve.versions.version_log import VersionRegistry
from reports.terminal import print_json, print_note, print_table

adapters = command_group("List, show and remove trained adapters.")
Name = Annotated[str, typer.Argument(help="DOMAIN (its newest), DOMAIN/VERSION, or a folder.")]


@adapters.command("list")
def list_adapters(workspace: WorkspaceOption = WORKSPACE, as_json: Json = False) -> None:
    """List all adapters.

    Example: bench adapters list
    """
    known = registry.AdapterRegistry(Workspace(workspace).adapters)
    cards = {}
    for name in known.list():
        try:
            cards[name] = known.show(name)
        except Malformed as error:
            print_note(f"{error.what}; {error.hint}")
    if as_json:
        rows = [{"name": name, **asdict(card)} for name, card in cards.items()]
        print_json(rows)
        return
    cells = ((name, card.method, card.base, card.created) for name, card in cards.items())
    print_table(("adapter", "method", "base", "created"), cells)


@adapters.command("show")
def show_adapter(name: Name, workspace: WorkspaceOption = WORKSPACE, as_json: Json = False) -> None:
    """Show how an adapter was made, and what it scored.

    Example: bench adapters show biology
    """
    found = registry.AdapterRegistry(Workspace(workspace).adapters).open(name)
    if as_json:
        print_json({"name": found.name, **asdict(found.card)})
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
    known, served = (
        registry.AdapterRegistry(Workspace(workspace).adapters),
        VersionRegistry(workspace),
    )
    for each in name:
        served.check_unused(Workspace(workspace).adapters / each)
        known.remove(each)
        print(f"removed `{each}`")
