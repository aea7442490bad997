"""The pages over a small workspace, as a browser and as a stranger see them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from engines.registry import EngineOptions
from serving.assistant import Assistant
from serving.ui.improve_jobs import JobStore
from serving.ui.lazy_assistant import LazyAssistant
from serving.ui.pages import Pages
from serving.ui.ui_app import make_ui_app
from tests.helpers.streaming_engine import EchoEngine
from tests.serving.conftest import Garden

TOKEN = "a-token"
BASE = "http://127.0.0.1:8001"
#: A program that writes stages as `bench improve` does, and goes on until it is stopped.
PROGRAM = """
import signal, sys, time
def main():
    print("[1] baseline", flush=True)
    print("table <script>alert(1)</script>", flush=True)
    print("[2] training\\n… training, 3 s", flush=True)
    print("loss 0.2  9 tokens/s  5/10  1.5/s  4 s left", flush=True)
    print("report: w/reports/a-vs-b.html", flush=True)
    if "stay" in sys.argv:
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
        print("ready", flush=True)
        time.sleep(60)
    sys.exit(3 if "fail" in sys.argv else 0)
if __name__ == "__main__":
    main()
"""


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[JobStore]:
    """The jobs of a workspace whose program is a small one; what runs at the end is stopped."""
    (tmp_path / "tiny_program.py").write_text(PROGRAM, encoding="utf-8")
    root = Path(__file__).parents[3]
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}:{root}")
    store = JobStore(tmp_path, "tiny_program")
    yield store
    for job in store.jobs():
        if job.state == "running":
            store.stop(job.id)
    for child in store._children:
        child.wait(20)


def wait_for(done: Callable[[], object]) -> None:
    import time

    until = time.monotonic() + 20
    while not done():
        assert time.monotonic() < until, "it takes too long"
        time.sleep(0.02)


@pytest.fixture
def make_client(jobs: JobStore, tmp_path: Path) -> Callable[..., TestClient]:
    def make(lazy: LazyAssistant | None = None) -> TestClient:
        if lazy is None:
            lazy = LazyAssistant(tmp_path, None, None, EngineOptions())
        app = make_ui_app(Pages(TOKEN, tmp_path), lazy, jobs)
        return TestClient(app, base_url=BASE, follow_redirects=False)

    return make


@pytest.fixture
def stranger(make_client: Callable[..., TestClient]) -> TestClient:
    """A browser that has no token."""
    return make_client()


@pytest.fixture
def client(make_client: Callable[..., TestClient]) -> TestClient:
    """A browser that has opened the printed address."""
    made = make_client()
    assert made.get(f"/?token={TOKEN}").status_code == 303
    return made


@pytest.fixture
def asking(
    make_client: Callable[..., TestClient],
    garden: Garden,
    engine: EchoEngine,
    monkeypatch: pytest.MonkeyPatch,
) -> TestClient:
    """The same, with an assistant that repeats its prompts, opened at the first question."""

    def opened(workspace: Path, plan: Path | None, *_: object) -> Assistant:
        return Assistant(engine, workspace, garden.root / "plans" / "first.yaml", follow=True)

    monkeypatch.setattr("serving.ui.lazy_assistant.open_assistant", opened)
    made = make_client(LazyAssistant(garden.root, None, None, EngineOptions()))
    made.get(f"/?token={TOKEN}")
    return made


def form_fields(page: str) -> dict[str, str]:
    """The token of the forms on a page."""
    found = re.search(r'name="form_token" value="(\w+)"', page)
    assert found is not None
    return {"form_token": found[1]}
