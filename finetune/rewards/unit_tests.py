"""Unit tests of a reply's code, run in a process that is bounded in time, memory and output.

A bound is no sandbox: the process has the rights of the user, and the network. Train with code of
a model in a container that may be lost.
"""

from __future__ import annotations

import os
import re
import secrets
import signal
import subprocess
import sys
import tempfile
from contextlib import suppress

#: Seconds of a program, and bytes of its memory and of what it writes.
SECONDS, MEMORY, OUTPUT = 4, 512 * 2**20, 2**20
_FENCE = re.compile(r"```(?:python|py)?[ \t]*\n(.*?)(?:\n```|\Z)", re.DOTALL)


def python_code(reply: str) -> str:
    """The last fenced block of a reply, else all of it; "" where that is no Python."""
    blocks = _FENCE.findall(reply)
    code = str(blocks[-1] if blocks else reply).strip()
    try:
        compile(code, "reply", "exec", dont_inherit=True)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return ""
    return code


def passes_tests(code: str, tests: str) -> bool:
    """Whether a program of the code and the tests runs to its very end.

    It must say a word that the code cannot know, so that leaving early does not count.
    """
    word = secrets.token_hex(8)
    program = f"{code}\n\n{tests}\n\nprint({word!r}, flush=True)\n"
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile() as said:
        process = subprocess.Popen(
            [sys.executable, "-I", "-"],
            stdin=subprocess.PIPE,
            stdout=said,
            stderr=subprocess.DEVNULL,
            cwd=folder,
            env={"PATH": os.defpath},
            start_new_session=True,
            preexec_fn=_bound if os.name == "posix" else None,
        )
        try:
            process.communicate(program.encode("utf-8", "replace"), timeout=SECONDS)
        except subprocess.TimeoutExpired:
            return False
        finally:
            _end(process)
        said.seek(0)
        return process.returncode == 0 and said.read(OUTPUT).rstrip().endswith(word.encode())


def _end(process: subprocess.Popen[bytes]) -> None:
    """End the program and what it started."""
    with suppress(ProcessLookupError, PermissionError):
        if os.name == "posix":
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    process.wait()


def _bound() -> None:
    import resource

    for kind, most in (
        (resource.RLIMIT_CPU, SECONDS),
        (resource.RLIMIT_AS, MEMORY),
        (resource.RLIMIT_FSIZE, OUTPUT),
        (resource.RLIMIT_CORE, 0),
    ):
        resource.setrlimit(kind, (most, most))
