"""The command line, in this process and in processes of its own."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from bench.app import main
from tests.helpers.forking import ForkedProcess, ForkServer
from tests.helpers.model_server import ModelServer


@dataclass(frozen=True)
class Said:
    """What a command printed, and how it ended."""

    code: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Bench = Callable[..., Said]


@pytest.fixture
def bench(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Bench:
    """Run a command in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def run(*argv: object) -> Said:
        capsys.readouterr()
        code = main([str(each) for each in argv])
        out, err = capsys.readouterr()
        return Said(code, out, err)

    return run


@pytest.fixture
def forked(fork_server: ForkServer, tmp_path: Path) -> Callable[..., ForkedProcess]:
    """Start a command in its own process, in an empty folder, where its own start is no matter."""

    def start(*argv: object, **more: Any) -> ForkedProcess:
        return fork_server.start("-m", "bench", *argv, cwd=tmp_path, **more)

    return start


@pytest.fixture
def process(tmp_path: Path) -> Callable[..., subprocess.Popen[str]]:
    """Start a command in its own process, in an empty folder."""

    def start(*argv: object, **more: Any) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "bench", *map(str, argv)]
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE} | more
        return subprocess.Popen(command, cwd=tmp_path, encoding="utf-8", **pipes)

    return start


@pytest.fixture
def server() -> Iterator[ModelServer]:
    """A server that answers at once."""
    made = ModelServer()
    yield made
    made.close()


@pytest.fixture
def exam(tmp_path: Path) -> Callable[..., Path]:
    """Write a file of questions of two domains, with ids e0, e1, …."""

    def write(
        count: int, name: str = "exam.jsonl", domains: tuple[str, ...] = ("law", "history")
    ) -> Path:
        rows = [
            {
                "id": f"e{n}",
                "question": f"Which city has number {n}?",
                "options": ["Paris", "Rome", "Bern", "Oslo"],
                "answer": n % 4,
                "domain": domains[n % len(domains)],
            }
            for n in range(count)
        ]
        path = tmp_path / name
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
        return path

    return write


@pytest.fixture(autouse=True)
def _clean_python(monkeypatch: pytest.MonkeyPatch) -> None:
    """No Ollama and no key of the person who runs this is asked or sent."""
    monkeypatch.setenv("OLLAMA_HOST", "http://127.0.0.1:9")
    for name in ("OPENAI_API_KEY", "PYTHONIOENCODING"):
        if name in os.environ:
            monkeypatch.delenv(name)
