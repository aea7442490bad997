"""`bench serve`: the assistant of a plan behind OpenAI's API."""

from __future__ import annotations

import socket
import sys
from contextlib import closing
from typing import Annotated

import typer

from bench.commands.ask import PlanModel, PlanOption
from bench.options import WORKSPACE, Device, KeepReplies, WorkspaceOption, comma_separated
from domainlift.activity import activity
from domainlift.optional import need
from domainlift.text.display import printable
from engines.registry import EngineOptions
from improve.feedback.reply_log import KEPT
from serving.assistant import AUTO, BASE_MODEL, Assistant, open_assistant
from serving.http_guard import Access
from serving.uvicorn_server import open_socket, run_server


def serve_command(
    plan: PlanOption = None,
    model: PlanModel = None,
    host: Annotated[str, typer.Option(help="The address; others than this need a key.")] = (
        "127.0.0.1"
    ),
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8000,
    key: Annotated[
        str, typer.Option(envvar="BENCH_KEY", help="The API key that clients need.")
    ] = "",
    adapter: Annotated[
        str | None, typer.Option(help="Serve these too, by name: `biology/v0002`, …")
    ] = None,
    documents_only: Annotated[
        bool, typer.Option("--documents-only", help="Refuse what the documents do not support.")
    ] = False,
    sources: Annotated[
        bool, typer.Option("--sources", help="End the text of chats with their sources.")
    ] = False,
    keep_replies: KeepReplies = KEPT,
    record: Annotated[
        bool, typer.Option("--record", help="Keep whole chats as traces (`bench trace`).")
    ] = False,
    workspace: WorkspaceOption = WORKSPACE,
    device: Device = "auto",
) -> None:
    """Serve a plan as an OpenAI-compatible API.

    `model` is `auto` (the plan decides), `base` or an adapter's name. Without `--plan`, plans that
    are promoted from now on are taken over.

    Example: bench serve --port 8080
    """
    need("starlette", "serve")
    from serving.http_app import ServerSettings

    settings = ServerSettings(Access(host, key), documents_only, sources, keep_replies, record)
    with open_socket(settings.access, port) as bound:
        with activity("loading the model"):
            more = comma_separated(adapter)
            assistant = open_assistant(workspace, plan, model, EngineOptions(device), more)
        with closing(assistant), activity(""):
            run_server(assistant, settings, bound, lambda: _tell(assistant, bound))


def _tell(assistant: Assistant, bound: socket.socket) -> None:
    host, port = bound.getsockname()[:2]
    names = ", ".join(f"`{name}`" for name in (AUTO, BASE_MODEL, *assistant.adapters))
    where = f"http://{f'[{host}]' if ':' in host else host}:{port}/v1"
    told = f"serving {names} at {where} by the plan `{assistant.plan.name}`; Ctrl-C ends it"
    print(printable(told), file=sys.stderr, flush=True)
