"""Commands that `bench` prints for its user: copied, they work in the workspace that was named."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

#: A command between backticks, or a text that is a command and nothing else.
_COMMAND = re.compile(r"(?<=`)bench [^`]+(?=`)|^bench [^`]+$")
#: Commands without `--workspace`.
_ANYWHERE = ("bench data check", "bench experiment")
_named: list[Path] = []


def name_workspace(folder: Path | None) -> None:
    """Tell the workspace that the command line names; None for the default or the environment."""
    _named[:] = [folder] if folder is not None else []


def copyable(text: str) -> str:
    """A text of this program, each of whose commands has `--workspace` where the user gave it."""
    return _COMMAND.sub(lambda found: _in_workspace(found[0]), text) if _named else text


def _in_workspace(command: str) -> str:
    if "--workspace" in command or command.startswith(_ANYWHERE):
        return command
    return f"{command} --workspace {shlex.quote(str(_named[0]))}"
