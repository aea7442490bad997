"""Fixtures of all tests: an environment without user settings, and a model server.

The server runs on this machine and says what a test tells it to say.
"""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol, TypeVar

import pytest
from hypothesis import settings

from tests.helpers.forking import ForkedProcess, ForkServer

# Side by side, each worker has one thread: several on the same cores would wait for one another.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

# No test asks the hub. Its library reads this when it is imported, and its retries take minutes.
os.environ["HF_HUB_OFFLINE"] = "1"

# A shell that starts the tests in the background has them ignore Ctrl-C, and their children too,
# where a test presses it.
signal.signal(signal.SIGINT, signal.default_int_handler)

# Time limits of single examples fail on a busy machine and say nothing about the code.
settings.register_profile("calm", deadline=None)
settings.load_profile("calm")


@pytest.fixture(autouse=True)
def _own_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide the user's settings, but for the place of the data sets."""
    for name in os.environ:
        if name.startswith("BENCH_") and name != "BENCH_DATA":
            monkeypatch.delenv(name)
    monkeypatch.setenv("NO_COLOR", "1")


@pytest.fixture(autouse=True)
def _torch_remains_able_to_learn() -> Iterator[None]:
    """Fail the test after which torch records no gradients: all that train later would fail."""
    yield
    if torch := sys.modules.get("torch"):
        assert torch.is_grad_enabled()
        assert not torch.is_inference_mode_enabled()


@pytest.fixture(scope="session")
def module() -> Callable[[str], ModuleType]:
    """Load a helper of the tests, by its path below this folder; programs import some as well."""

    def load(name: str) -> ModuleType:
        path = Path(__file__).parent / name
        spec = importlib.util.spec_from_file_location(path.stem, path)
        assert spec is not None
        assert spec.loader is not None
        made = importlib.util.module_from_spec(spec)
        sys.modules[path.stem] = made
        spec.loader.exec_module(made)
        return made

    return load


@pytest.fixture(scope="session")
def fake(module: Callable[[str], ModuleType]) -> ModuleType:
    """The module `fake_engine`, which scripts outside of pytest import as well."""
    return module("benchmarks/fake_engine.py")


@pytest.fixture(scope="session")
def made(module: Callable[[str], ModuleType]) -> ModuleType:
    """The module `made_runs`, which writes runs."""
    return module("reports/made_runs.py")


@dataclass(frozen=True)
class Reply:
    """What the server sends; `drop` announces more than it sends, and hangs up."""

    body: object = field(default_factory=dict)
    status: int = 200
    delay: float = 0.0
    drop: bool = False
    headers: tuple[tuple[str, str], ...] = ()

    @property
    def content(self) -> bytes:
        """The body's bytes: text as it is, a list as JSON lines, anything else as JSON."""
        if isinstance(self.body, str):
            return self.body.encode()
        if isinstance(self.body, list):
            return "".join(json.dumps(line) + "\n" for line in self.body).encode()
        return json.dumps(self.body).encode()


class Closes(Protocol):
    """What holds connections."""

    def close(self) -> None:
        """Give them back."""


Kept = TypeVar("Kept", bound=Closes)
Say = Reply | Callable[[dict[str, Any]], Reply]


class Stub:
    """Replies by path, in turn; the last one is repeated. Keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, dict[str, Any]]] = []
        self.headers: list[dict[str, str]] = []
        self.most_at_once = 0
        self._at_once = 0
        self._kept: list[Closes] = []
        self._script: dict[str, list[Say]] = {}
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.server_port}"

    def on(self, path: str, *says: Say) -> None:
        """Say these, one after another, when `path` is asked."""
        self._script[path] = list(says)

    def bodies(self, path: str) -> list[dict[str, Any]]:
        """What was posted to a path, in order of arrival."""
        return [body for asked, body in self.asked if asked == path]

    def keep(self, client: Kept) -> Kept:
        """Close a client when the test is over."""
        self._kept.append(client)
        return client

    def end(self) -> None:
        """Close the server and its clients."""
        self.close()
        for client in self._kept:
            client.close()

    @property
    def is_over(self) -> bool:
        """Whether it was closed; connections that are still open get no reply then."""
        return self._over.is_set()

    def close(self) -> None:
        """Stop listening."""
        self._over.set()
        if self._thread.is_alive():
            self._server.shutdown()
            self._server.server_close()
            self._thread.join()

    def take(self, path: str, body: dict[str, Any], headers: dict[str, str]) -> Reply:
        """Find the reply to one request, after its delay."""
        with self._lock:
            self.asked.append((path, body))
            self.headers.append(headers)
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
            says = self._script.get(path, [Reply({"error": f"no route {path}"}, 404)])
            say = says.pop(0) if len(says) > 1 else says[0]
        reply = say if isinstance(say, Reply) else say(body)
        self._over.wait(reply.delay)
        with self._lock:
            self._at_once -= 1
        return reply


def _handler(stub: Stub) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            self._send(stub.take(self.path, {}, dict(self.headers)))

        def do_POST(self) -> None:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            self._send(stub.take(self.path, body, dict(self.headers)))

        def _send(self, reply: Reply) -> None:
            if stub.is_over:
                self.close_connection = True
                return
            with suppress(OSError):
                self.send_response(reply.status)
                for name, value in reply.headers:
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(reply.content) + 99 * reply.drop))
                self.end_headers()
                self.wfile.write(reply.content)
                self.wfile.flush()
            self.close_connection = self.close_connection or reply.drop

        def log_message(self, *_: object) -> None:
            pass

    return Handler


@pytest.fixture
def stub() -> Iterator[Stub]:
    """A server that nobody has told anything yet."""
    server = Stub()
    yield server
    server.end()


@pytest.fixture(scope="session")
def fork_server() -> Iterator[ForkServer]:
    """Starts processes that need not import the heavy libraries."""
    if not hasattr(os, "fork"):
        pytest.skip("needs processes that fork")
    server = ForkServer()
    yield server
    server.close()


@pytest.fixture
def two_processes(fork_server: ForkServer) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Run a Python program as two processes that know of one another, as a launcher does."""

    def launch(*argv: object, **more: str) -> subprocess.CompletedProcess[str]:
        group = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": _free_port(), "WORLD_SIZE": "2"}
        ranks = [
            fork_server.start(
                *argv, env={**os.environ, **group, "RANK": rank, "LOCAL_RANK": rank, **more}
            )
            for rank in ("0", "1")
        ]
        with ThreadPoolExecutor() as pool:
            said = list(pool.map(ForkedProcess.communicate, ranks))
        code = max(abs(rank.wait()) for rank in ranks)
        return subprocess.CompletedProcess(argv, code, *map("".join, zip(*said, strict=True)))

    return launch


@pytest.fixture
def torchrun() -> Callable[..., subprocess.CompletedProcess[str]]:
    """The same with torch's own launcher, which `accelerate launch` runs for several GPUs."""
    if sys.platform == "win32":
        pytest.skip("launchers there need another store")

    def launch(*argv: object, **more: str) -> subprocess.CompletedProcess[str]:
        launcher = ["-m", "torch.distributed.run", "--nproc-per-node", "2"]
        where = ["--master-addr", "127.0.0.1", "--master-port", _free_port()]
        path = os.pathsep.join(sys.path)
        return subprocess.run(
            [sys.executable, "-W", "ignore", *launcher, *where, *map(str, argv)],
            capture_output=True,
            text=True,
            timeout=180,
            check=False,
            env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": path, **more},
        )

    return launch


def _free_port() -> str:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


@pytest.fixture
def reply() -> type[Reply]:
    """The class of what a stub says."""
    return Reply
