"""Editing of a trace's messages as JSON lines."""

from __future__ import annotations

import json
import os
import shlex
import subprocess
from pathlib import Path

from domainlift.activity import activity
from domainlift.errors import BenchError, Malformed
from domainlift.fields import InvalidRow, parse_json
from domainlift.files import write_text
from traces.trace import Json, Trace, read_message


def message_lines(trace: Trace) -> str:
    """The messages of a trace, one line of JSON each."""
    return "".join(json.dumps(each, ensure_ascii=False) + "\n" for each in trace.messages)


def read_message_lines(path: Path) -> tuple[Json, ...]:
    """The messages of such lines; Malformed, with the message and its line, where one is none."""
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise Malformed(path, "cannot be read as UTF-8 text") from error
    # Not splitlines(): it also cuts at separators that may stand inside a text of JSON.
    lines = [(place, line) for place, line in enumerate(text.split("\n"), 1) if line.strip()]
    return tuple(
        _message(line, number, path, place) for number, (place, line) in enumerate(lines, 1)
    )


def edited_messages(trace: Trace, draft: Path) -> tuple[Json, ...]:
    """The messages as a person left them in their editor, VISUAL or EDITOR.

    What they wrote stands in `draft`, which a later call goes on with where it was refused.
    """
    if not draft.exists():
        write_text(draft, message_lines(trace))
    command = os.environ.get("VISUAL") or os.environ.get("EDITOR") or "vi"
    try:
        with activity(""):
            done = subprocess.run([*shlex.split(command), str(draft)], check=False)  # noqa: S603
    except OSError as error:
        raise BenchError(f"`{command}` cannot be started", "set EDITOR, or use `--file`") from error
    if done.returncode:
        raise BenchError(f"`{command}` ended with {done.returncode}; nothing was changed")
    return read_message_lines(draft)


def _message(line: str, number: int, path: Path, place: int) -> Json:
    try:
        return read_message(parse_json(line), f"message {number}")
    except InvalidRow as error:
        what = str(error)
    except (ValueError, RecursionError):
        what = f"message {number} is no JSON"
    raise Malformed(path, what, line=place, hint="mend it and repeat the same command")
