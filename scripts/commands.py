"""Write docs/commands.md from the help of every command.

python scripts/commands.py          write it
python scripts/commands.py --check  exit with 1 where it is out of date
"""

from __future__ import annotations

import contextlib
import io
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from typer.models import CommandInfo

PAGE = Path(__file__).resolve().parents[1] / "docs" / "commands.md"


def main() -> int:
    """Write or check the page."""
    # Help shows a variable that is set, and is as wide as the terminal.
    for name in [name for name in os.environ if name.startswith("BENCH_")]:
        del os.environ[name]
    os.environ |= {"COLUMNS": "100", "TERMINAL_WIDTH": "100", "NO_COLOR": "1"}
    page = text()
    if "--check" in sys.argv:
        current = PAGE.exists() and PAGE.read_text(encoding="utf-8") == page
        return 0 if current else 1
    PAGE.write_text(page, encoding="utf-8", newline="\n")
    return 0


def text() -> str:
    """The page as it should be."""
    parts = ["# Commands\n\nMade by `scripts/commands.py` from `--help`; do not edit.\n"]
    for command in _commands():
        title = f"bench {command}".strip()
        parts.append(f"\n## {title}\n\n```\n{_help(command)}\n```\n")
    return "".join(parts)


def _commands() -> list[str]:
    """Every command, as the program itself knows them, groups with their own."""
    from bench.app import make_app

    app = make_app()
    found = [""]
    for group in app.registered_groups:
        verbs = group.typer_instance.registered_commands if group.typer_instance else []
        found += [str(group.name), *(f"{group.name} {_name(verb)}" for verb in verbs)]
    return sorted([*found, *map(_name, app.registered_commands)])


def _name(command: CommandInfo) -> str:
    if command.name is not None:
        return command.name
    return command.callback.__name__ if command.callback is not None else ""


def _help(command: str) -> str:
    """What a command prints, asked in this process: each start would take a third of a second."""
    from bench.app import make_app

    app, said = make_app(), io.StringIO()
    with contextlib.redirect_stdout(said):
        app([*command.split(), "--help"], prog_name="bench", standalone_mode=False)
    return "\n".join(line.rstrip() for line in said.getvalue().strip().splitlines())


if __name__ == "__main__":
    sys.exit(main())
