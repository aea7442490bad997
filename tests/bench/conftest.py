"""The command line in this process and in its own, and a model's server on this machine."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from bench.app import main
from tests.helpers.forking import ForkedProcess, ForkServer


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


class ModelServer:
    """Serves the OpenAI API; letters are a hash of the prompt, and texts what `text` says."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.listing_delay = 0.0
        self.text = " The answer is B."
        self.refuse = "\0"
        self.asked: list[str] = []
        self.listed = threading.Event()
        self._over = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def model(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1#stub"

    def close(self) -> None:
        self._over.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def reply(self, body: dict[str, Any]) -> tuple[int, object]:
        prompt = str(body.get("prompt", body.get("messages")))
        self.asked.append(prompt)
        self._over.wait(self.delay)
        if self.refuse in prompt:
            return 400, {"error": {"message": "this prompt is refused"}}
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": 1}
        if "logprobs" not in body:
            return 200, {"choices": [{"text": self.text}], "usage": usage}
        digest = hashlib.sha256(prompt.encode()).digest()
        top = {f" {letter}": -2.0 - digest[n] / 50 for n, letter in enumerate("ABCD")}
        logprobs = {"top_logprobs": [top]}
        return 200, {"choices": [{"text": " A", "logprobs": logprobs}], "usage": usage}

    def models(self) -> object:
        self.listed.set()
        self._over.wait(self.listing_delay)
        return {"data": [{"id": "stub"}]}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self._send(200, server.models())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._send(*server.reply(body))

            def _send(self, status: int, value: object) -> None:
                data = json.dumps(value).encode()
                with suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        return Handler


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
