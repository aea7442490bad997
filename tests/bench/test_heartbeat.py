from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path
from typing import IO, Any

import pytest

from bench import heartbeat as module
from bench.heartbeat import heartbeat
from domainlift.activity import activity, current_activity

#: Seconds of silence that no command may pass.
LONGEST = 5.0


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_SILENCE", 0.1)


@pytest.mark.usefixtures("quick")
def test_silence_is_broken_with_what_is_done(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    with heartbeat("bench run"):
        time.sleep(0.35)
        with activity("loading \x1b[31m`it`"):
            time.sleep(0.35)
    lines = said.getvalue().splitlines()
    assert lines[0] == "… bench run, 0 s"
    assert lines[-1].startswith("… loading ")
    assert lines[-1].endswith("[31m`it`, 0 s")
    assert "\x1b" not in said.getvalue()
    assert sys.stderr is said
    assert current_activity() is None


@pytest.mark.usefixtures("quick")
def test_who_talks_is_not_interrupted(monkeypatch: pytest.MonkeyPatch) -> None:
    said = io.StringIO()
    monkeypatch.setattr(sys, "stderr", said)
    with heartbeat("bench run"):
        for _ in range(30):
            print("news", file=sys.stderr)
            time.sleep(0.01)
    assert set(said.getvalue().splitlines()) == {"news"}


@pytest.mark.usefixtures("quick")
def test_in_a_terminal_the_line_is_taken_away(monkeypatch: pytest.MonkeyPatch) -> None:
    said = Terminal()
    monkeypatch.setattr(sys, "stderr", said)
    with heartbeat("bench run"):
        time.sleep(0.3)
        print("done", file=sys.stderr)
    text = said.getvalue()
    assert text.count("\n") == 1
    assert "\r… bench run, 0 s" in text
    assert text.split("\r")[-1] == "done\n"


def test_activities_end_with_their_errors() -> None:
    with pytest.raises(ZeroDivisionError), activity("one"), activity("two"):
        _ = 1 // len([])
    assert current_activity() is None


def gaps(started: subprocess.Popen[str]) -> list[tuple[float, str]]:
    """The silences of a process, the longest first, each with the line that ended it."""
    moments = [(time.monotonic(), "the start")]

    def read(stream: IO[str]) -> None:
        moments.extend((time.monotonic(), line.rstrip()) for line in stream)

    streams = (started.stdout, started.stderr)
    readers = [threading.Thread(target=read, args=(stream,)) for stream in streams]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    started.wait()
    moments.append((time.monotonic(), "the end"))
    pairs = pairwise(sorted(moments))
    return sorted(((after - before, line) for (before, _), (after, line) in pairs), reverse=True)


@pytest.mark.slow
def test_no_command_is_silent_for_more_than_five_seconds(
    process: Callable[..., subprocess.Popen[str]], tmp_path: Path
) -> None:
    pytest.importorskip("peft")
    commands: tuple[tuple[Any, ...], ...] = (
        ("kb", "build", "biology", "--own"),
        ("run", "--model", "tiny", "--suite", "demo", "--limit", "60", "--rag", "biology"),
        ("data", "prepare", "biology", "--own"),
        ("train", "biology", "--model", "tiny", "--dry-run"),
        ("train", "biology", "--model", "tiny", "--set", "steps=20"),
        ("improve", "--model", "tiny", "--only", "history", "--dry-run"),
        ("improve", "--model", "tiny", "--only", "history", "--limit", "60", "--set", "steps=20"),
    )
    for argv in commands:
        with process(*argv) as started:
            silences = gaps(started)
        assert started.returncode in (0, 1), argv
        assert silences[0][0] <= LONGEST, (argv, silences[:3])
