"""Fixtures of all tests: an environment without user settings, and a model server.

The server runs on this machine and says what a test tells it to say.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from hypothesis import settings

from tests.helpers import browser
from tests.helpers.forking import ForkedProcess, ForkServer
from tests.helpers.stub_server import Reply, Stub

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


@pytest.fixture(scope="session")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    """A tab of a real browser; the test is skipped where there is none."""
    program = browser.find()
    if program is None:
        pytest.skip("no browser: install Chromium (`apt-get install chromium`)")
    pytest.importorskip("websockets", reason="drives the browser")
    with browser.started(program, tmp_path_factory.mktemp("profile")) as tab:
        yield tab
