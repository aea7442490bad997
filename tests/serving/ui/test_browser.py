"""The pages in a real browser, narrow and wide, and `bench ui` as a process of its own."""

from __future__ import annotations

import re
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from starlette.testclient import TestClient

from serving.http_guard import Access
from serving.ui.improve_jobs import JobStore
from serving.uvicorn_server import open_socket
from tests.helpers.forking import ForkServer
from tests.helpers.streaming_engine import EchoEngine
from tests.serving.ui.conftest import TOKEN, form_fields, wait_for
from tests.serving.ui.test_views import EVIL, exam, put_run

__all__ = ["exam"]

VIEWS = (
    *("/", "/runs", "/runs/first", "/improve", "/adapters", "/exams", "/exams/works", "/nope"),
    "/health",
    *("/knowledge?domain=garden&query=warm", "/compare?baseline=first&candidate=second"),
)


@contextmanager
def served(client: TestClient) -> Iterator[str]:
    """The application of a client on a port of its own."""
    bound = open_socket(Access(), 0)
    config = uvicorn.Config(client.app, log_level="warning", timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
    thread.start()
    wait_for(lambda: server.started)
    try:
        yield f"http://127.0.0.1:{bound.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join()


@pytest.mark.slow
def test_pages_fit_and_complain_of_nothing(
    page: Any, asking: TestClient, exam: object, jobs: JobStore, tmp_path: Path
) -> None:
    put_run(tmp_path, "first", 1)
    put_run(tmp_path, "second" * 15, 2, run="second" * 15, model=EVIL, suite="s" * 90)
    put_run(tmp_path, "second", 3)
    job = jobs.start(["stay"])
    with served(asking) as url:
        page.open(f"{url}/?token={TOKEN}")
        for view in (*VIEWS, f"/improve/{job.id}"):
            for width in (360, 1300):
                page.open(url + view, width=width)
                assert page.run("document.body.innerText.length") > 100, view
                assert page.run("document.documentElement.scrollWidth") <= width, (view, width)
                loud = [each for each in page.complaints if "404" not in str(each)]
                assert loud == [], (view, width)
                assert all(each.startswith((url, "data:")) for each in page.requests), view
        jobs.stop(job.id)
        page.open(f"{url}/improve/{job.id}")
        wait_for(lambda: page.run("document.querySelector('.tag').textContent") == "stopped")


@pytest.mark.slow
def test_answers_are_written_as_they_come(
    page: Any, asking: TestClient, engine: EchoEngine
) -> None:
    engine.pause = 0.1
    with served(asking) as url:
        page.open(f"{url}/?token={TOKEN}")
        question = f"Tomatoes need warm soil and much water in summer: a tomato <b>?</b> {EVIL}"
        page.run(f"document.getElementById('question').value = '{question}'")
        page.run("document.getElementById('ask').requestSubmit()")
        said = "[...document.querySelectorAll('.said')].map(each => each.textContent)"
        wait_for(lambda: any(page.run(said)))
        begun = page.run(said)
        done = "[...document.querySelectorAll('.state')].every(e => /tokens/.test(e.textContent))"
        wait_for(lambda: page.run(done))
        both = page.run(said)
        assert all(map(str.startswith, both, begun))
        assert len("".join(begun)) < len("".join(both))
        assert EVIL in both[1]
        assert page.run("document.querySelectorAll('.said b, .from script').length") == 0
        assert "warm soil" in page.run("document.querySelector('.from').textContent")
        assert page.complaints == []
        # A closed page ends the decoding.
        engine.pause, engine.said = 0.2, 0
        page.run("document.getElementById('ask').requestSubmit()")
        wait_for(lambda: engine.said)
        page.open(f"{url}/runs")
        wait_for(engine.gone.is_set)


@pytest.mark.slow
def test_the_command_prints_its_address_and_ends(fork_server: ForkServer, tmp_path: Path) -> None:
    argv = ("-m", "bench", "ui", "--port", 0, "--no-open", "--workspace", tmp_path)
    with fork_server.start(*argv) as process:
        assert process.stdout is not None
        url = process.stdout.readline().strip()
        found = re.fullmatch(r"(http://127\.0\.0\.1:\d+)/\?token=[\w-]{32}", url)
        assert found is not None, url
        with httpx.Client(base_url=found[1], timeout=30) as client:
            assert client.get("/").status_code == 403
            until = time.monotonic() + 30
            while client.get(url).status_code != 303:
                assert time.monotonic() < until
            page = client.get("/improve").text
            done = client.post("/improve", data={**form_fields(page), "model": "no/such"})
            assert done.status_code == 400
        process.send_signal(signal.SIGTERM)
        assert process.wait() == 143
