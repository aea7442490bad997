"""`bench domains`: the fields of knowledge, built in and of the workspace."""

from __future__ import annotations

from bench.options import WORKSPACE, Json, WorkspaceOption
from knowledge_bases.domains import load_domains
from reports.terminal import print_json, print_table


def domains(workspace: WorkspaceOption = WORKSPACE, as_json: Json = False) -> None:
    """List all domains.

    A folder `domains/NAME` with a `domain.yaml` in the workspace adds one.

    Example: bench domains --json
    """
    found = load_domains(workspace)
    if as_json:
        rows = {
            d.name: {
                "title": d.title,
                "description": d.description,
                "protected": d.protected,
                "suite": d.suite,
                "tasks": list(d.tasks),
                "keywords": list(d.keywords),
                "folder": str(d.folder),
            }
            for d in found.values()
        }
        print_json(rows)
        return
    cells = (
        (d.name, d.title, "yes" if d.protected else "", ", ".join(d.tasks)) for d in found.values()
    )
    print_table(("domain", "title", "protected", "tasks"), cells)
