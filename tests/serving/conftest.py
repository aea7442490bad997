"""An assistant over a small workspace, and its server on this machine."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
import uvicorn

from ensemble.plan import DomainTreatment, Plan, write_plan
from ensemble.router.keywords import DomainTerms, Keywords, write_keywords
from rag.retrieval_gate import OPEN, Gate
from serving.assistant import Assistant
from serving.http_app import ServerSettings, make_http_app
from serving.http_guard import Access
from serving.uvicorn_server import open_socket
from tests.helpers.fake_shelf import Shelf, WordBag
from tests.helpers.streaming_engine import EchoEngine

GARDEN = (
    "tomato: tomatoes need warm soil and much water in summer",
    "leek: leeks are sown in march and stay in the bed over winter",
    "bean: beans climb a pole of two metres and feed the soil",
)


@dataclass
class Garden:
    """A workspace with a knowledge base of gardens, and plans for it."""

    root: Path
    generation: str = ""

    def plan(self, name: str = "first", *, gate: Gate = OPEN, created: str = "2026-01-01") -> Path:
        """Write a promoted plan: passages on gardens, an adapter for law."""
        path = self.root / "plans" / f"{name}.yaml"
        keywords = Keywords(
            {
                "garden": DomainTerms(0.0, {"tomato": 9.0, "leek": 9.0, "bean": 9.0, "sown": 9.0}),
                "law": DomainTerms(0.0, {"court": 9.0, "judge": 9.0}),
                "other": DomainTerms(0.5),
            }
        )
        write_keywords(path.with_suffix(".routes.yaml"), keywords)
        domains = {
            "garden": DomainTreatment("rag", knowledge_base=self.generation, gate=gate),
            "law": DomainTreatment("lora", adapter="law-v1", adapter_digest="sha256:ab"),
        }
        model, digest = EchoEngine().info.model, EchoEngine().info.digest
        made = Plan(model, digest, domains, f"{name}.routes.yaml", verdict="promoted", passages=1)
        write_plan(path, replace(made, created=created))
        return path


@pytest.fixture(scope="session")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shelf = Shelf(tmp_path_factory.mktemp("garden"))
    shelf.put("garden.txt", *GARDEN)
    shelf.build("garden", size=20)
    return shelf.root


@pytest.fixture
def garden(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Garden:
    shutil.copytree(built, tmp_path / "knowledge_bases")
    monkeypatch.setattr("rag.library.open_cached", lambda name, workspace: WordBag())
    made = Garden(tmp_path)
    made.generation = next((tmp_path / "knowledge_bases" / "garden").glob("g0*")).name
    made.plan()
    return made


@pytest.fixture
def engine() -> EchoEngine:
    return EchoEngine()


@pytest.fixture
def assistant(garden: Garden, engine: EchoEngine) -> Iterator[Assistant]:
    made = Assistant(engine, garden.root, garden.root / "plans" / "first.yaml", follow=True)
    yield made
    made.close()


@dataclass
class Served:
    """A server that runs in a thread."""

    url: str
    server: uvicorn.Server


Serve = Callable[..., Served]


@pytest.fixture
def serve() -> Iterator[Serve]:
    """Start a server of an assistant, on a free port."""
    running: list[tuple[uvicorn.Server, threading.Thread]] = []

    def start(assistant: Assistant, **settings: object) -> Served:
        access = Access(key=str(settings.pop("key", "")))
        stopping = lambda: server.should_exit  # noqa: E731
        app = make_http_app(assistant, ServerSettings(access, stopping=stopping, **settings))
        bound = open_socket(access, 0)
        config = uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=2)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [bound]})
        thread.start()
        running.append((server, thread))
        while not server.started:
            time.sleep(0.005)
        return Served(f"http://127.0.0.1:{bound.getsockname()[1]}", server)

    yield start
    for server, thread in running:
        server.should_exit = True
        thread.join()
