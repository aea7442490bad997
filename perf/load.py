"""Clients that stream chats over HTTP from `bench serve`, against other servers on the same model.

    python -m perf.load --seconds 60
    python -m perf.load --seconds 60 --model FOLDER
    python -m perf.load --seconds 60 --model tiny --adapters 1 3

Each client asks one question after another, with a system prompt that all share, and reads a reply
of 32 tokens. The servers are processes of their own, one after the other, without passages and
adapters: of `smollm2`'s GGUF file llama-server of the package `xllamacpp`, with a slot for each
client; of a folder `transformers serve`, plain and with continuous batching (it needs fastapi).
With `--adapters` ours alone is asked, each client for one adapter after another of so many.
Counted are requests that were answered whole, and the others as lost.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import httpx

from domainlift.workspace import Workspace
from engines.gguf.files import smollm2_file
from engines.gguf.model import processor_threads
from engines.registry import SMOLLM2, EngineOptions, open_engine
from ensemble.plan import Plan, read_plan, write_plan
from ensemble.router.keywords import SHIPPED, read_keywords, write_keywords
from finetune.adapters.registry import AdapterDraft, AdapterRegistry
from perf.serving import random_adapters

OURS, LLAMA, CONTINUOUS = "ours", "llama-server", "transformers serve --continuous-batching"
FILE_SIDES, FOLDER_SIDES = (OURS, LLAMA), (OURS, "transformers serve", CONTINUOUS)
_SYSTEM = "You answer questions in one short sentence. Say so where you do not know. " * 3
_TOKENS, _READY, _PATIENCE = 32, 120.0, 120.0


def main() -> None:
    """Print a row for each server and number of clients."""
    parser = argparse.ArgumentParser(description="load over HTTP")
    parser.add_argument("--clients", type=int, nargs="+", default=[1, 4, 16])
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--model", default=SMOLLM2, help="tiny, smollm2, or a folder of weights")
    parser.add_argument("--adapters", type=int, nargs="+", default=[], help="random ones")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    settings = parser.parse_args()
    if settings.serve is not None:
        _llama_server(settings.serve, max(settings.clients))
        return
    print("| server | clients | requests/s | first token p50, s | p99, s | lost |")
    print("|" + "---|" * 6)
    sides = FILE_SIDES if settings.model == SMOLLM2 else FOLDER_SIDES
    for side in sides[:1] if settings.adapters else sides:
        try:
            with _server(side, settings) as server:
                for clients, adapters in product(settings.clients, settings.adapters or [0]):
                    shown = f"{side}, adapters: {adapters}" if adapters else side
                    asked = replace(server, models=server.models[: adapters or 1])
                    row = _measure(asked, clients, settings.seconds)
                    print(f"| {shown} | {clients} | {row} |", flush=True)
        except _NoAnswer:
            print(f"| {side} | the server does not answer | | | | |", flush=True)


def _measure(server: _Server, clients: int, seconds: float) -> str:
    first: list[float] = []
    lost: list[str] = []
    begun = time.perf_counter()

    def ask(client: int) -> None:
        number = client
        while time.perf_counter() < begun + seconds:
            try:
                first.append(_asked(server, number))
            except (httpx.HTTPError, ValueError, KeyError) as error:
                lost.append(repr(error))
            number += clients

    threads = [threading.Thread(target=ask, args=(client,)) for client in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    passed = time.perf_counter() - begun
    for why, times in Counter(lost).items():
        print(f"lost {times}: {why}", file=sys.stderr)
    first.sort()
    shown = [first[len(first) // 2], first[min(len(first) - 1, len(first) * 99 // 100)]]
    return f"{len(first) / passed:.2f} | {shown[0]:.2f} | {shown[1]:.2f} | {len(lost)}"


def _asked(server: _Server, number: int) -> float:
    """Seconds to the first piece of a reply; ValueError where the reply does not end.

    Each request has a connection of its own: servers close idle ones whenever they like.
    """
    question = f"What is {number} plus {number % 7}, and which town was founded in {900 + number}?"
    turns = [{"role": "system", "content": _SYSTEM}, {"role": "user", "content": question}]
    model = server.models[number % len(server.models)]
    body = {"model": model, "messages": turns, "max_tokens": _TOKENS, "stream": True}
    begun, first, ended = time.perf_counter(), 0.0, False
    address = f"{server.url}/v1/chat/completions"
    with httpx.stream("POST", address, json=body, timeout=_PATIENCE) as reply:
        reply.raise_for_status()
        for line in reply.iter_lines():
            data = line.removeprefix("data: ")
            if not data or data == "[DONE]":
                continue
            for choice in json.loads(data)["choices"]:
                if not first and choice["delta"].get("content"):
                    first = time.perf_counter() - begun
                ended = ended or choice.get("finish_reason") is not None
    if not ended:
        raise ValueError("the reply does not end")
    return first


@dataclass(frozen=True)
class _Server:
    """Where a server is, and what it calls the models that are asked in turn."""

    url: str
    models: tuple[str, ...]


class _NoAnswer(Exception):
    """A server that ended, or was not ready in time."""


@contextmanager
def _server(side: str, settings: argparse.Namespace) -> Iterator[_Server]:
    """A server in a process of its own."""
    model, slots, adapters = settings.model, max(settings.clients), max([0, *settings.adapters])
    names: tuple[str, ...] = (model,) if side not in (OURS, LLAMA) else ("base",)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with TemporaryDirectory() as folder:
        command = [sys.executable, "-m", "bench", "serve", "--port", str(port)]
        if side == OURS:
            command += ["--plan", _plan(Path(folder), model), "--workspace", folder]
            if adapters:
                published = _published(Path(folder), model, adapters)
                command += ["--adapter", ",".join(published)]
                names = tuple(name.replace("/", "-") for name in published)
        elif side == LLAMA:
            command[2:] = ["perf.load", "--serve", str(port), "--clients", str(slots)]
        else:
            script = str(Path(sys.executable).with_name("transformers"))
            command = [script, *side.split()[1:], model, "--port", str(port), "--host", "127.0.0.1"]
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            found = _Server(f"http://127.0.0.1:{port}", names)
            _wait(found, process)
            yield found
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=30)


def _plan(folder: Path, model: str) -> str:
    """A plan that treats nothing."""
    with closing(open_engine(model, EngineOptions())) as engine:
        info = engine.info
    write_keywords(folder / "routes.yaml", read_keywords(SHIPPED))
    write_plan(folder / "plan.yaml", Plan(info.model, info.digest, {}, router="routes.yaml"))
    return str(folder / "plan.yaml")


def _published(folder: Path, model: str, count: int) -> list[str]:
    """Names of random adapters in a workspace."""
    registry, plan = AdapterRegistry(Workspace(folder).adapters), read_plan(folder / "plan.yaml")
    drafts = random_adapters(folder / "drafts", [f"random{n}" for n in range(count)], model)
    return [
        registry.publish(AdapterDraft(name, draft, "lora", plan.model, plan.digest)).name
        for name, draft in drafts.items()
    ]


def _wait(server: _Server, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + _READY
    while time.monotonic() < end and process.poll() is None:
        try:
            _asked(server, 0)
        except (httpx.HTTPError, ValueError, KeyError):
            time.sleep(0.2)
        else:
            return
    raise _NoAnswer


def _llama_server(port: int, slots: int) -> None:
    xllamacpp: Any = import_module("xllamacpp")  # it has no type stubs
    params: Any = xllamacpp.CommonParams()
    params.model.path = str(smollm2_file())
    params.port, params.n_parallel, params.n_ctx = port, slots, 512 * slots
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = processor_threads()
    server = xllamacpp.Server(params)
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    while server is not None:
        time.sleep(1.0)


if __name__ == "__main__":
    main()
