"""`bench ui`: pages on this machine."""

from __future__ import annotations

import secrets
import sys
import threading
import webbrowser
from contextlib import closing
from typing import Annotated

import typer

from bench.commands.ask import PlanModel, PlanOption
from bench.options import WORKSPACE, Device, KeepReplies, WorkspaceOption
from domainlift.activity import activity
from domainlift.optional import need
from engines.registry import EngineOptions
from improve.feedback.reply_log import KEPT
from serving.http_guard import Access
from serving.uvicorn_server import open_socket, run_app


def ui_command(
    plan: PlanOption = None,
    model: PlanModel = None,
    port: Annotated[int, typer.Option(min=0, max=65535, help="0 for any that is free.")] = 8001,
    no_open: Annotated[bool, typer.Option("--no-open", help="Open no browser.")] = False,
    keep_replies: KeepReplies = KEPT,
    workspace: WorkspaceOption = WORKSPACE,
    device: Device = "auto",
) -> None:
    """Show pages on this machine: ask, compare runs, improve, search, edit exams.

    The address has a token, without which nobody sees them. What is started there goes on when the
    page or this command ends.

    Example: bench ui --port 0
    """
    need("starlette", "serve")
    from serving.ui.improve_jobs import JobStore
    from serving.ui.lazy_assistant import LazyAssistant
    from serving.ui.pages import Pages
    from serving.ui.ui_app import make_ui_app

    token = secrets.token_urlsafe(24)
    with open_socket(Access(), port) as bound:
        url = f"http://127.0.0.1:{bound.getsockname()[1]}/?token={token}"
        lazy = LazyAssistant(workspace, plan, model, EngineOptions(device), keep_replies)
        pages, jobs = Pages(token, workspace), JobStore(workspace)
        with closing(lazy), activity(""):
            run_app(
                lambda stopping: make_ui_app(pages, lazy, jobs, stopping),
                bound,
                lambda: _tell(url, open_it=not no_open),
            )


def _tell(url: str, *, open_it: bool) -> None:
    print(url, flush=True)
    print("Ctrl-C ends the pages, and no job that they started", file=sys.stderr, flush=True)
    if open_it:
        # A browser in the terminal would keep the server from starting.
        threading.Thread(target=webbrowser.open, args=(url,), daemon=True).start()
