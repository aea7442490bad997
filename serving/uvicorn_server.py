"""A running server: its socket, and an end that cuts no reply off without a word."""

from __future__ import annotations

import socket
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING

from domainlift.errors import Misuse
from domainlift.optional import need
from serving.http_guard import Access

if TYPE_CHECKING:
    from starlette.types import ASGIApp

    from serving.assistant import Assistant
    from serving.http_app import ServerSettings

#: Seconds that running replies have to end once the server is told to.
_GRACE = 3


def open_socket(access: Access, port: int) -> socket.socket:
    """Bind the address, any free port for 0; Misuse where it cannot be had."""
    family = socket.AF_INET6 if ":" in access.host else socket.AF_INET
    try:
        return socket.create_server((access.host, port), family=family, backlog=2048)
    except OSError as error:
        reason = error.strerror or error
        raise Misuse(
            f"cannot listen on `{access.host}` port {port}: {reason}",
            "another port: `--port N`, 0 for any that is free",
        ) from error


def run_server(
    assistant: Assistant,
    settings: ServerSettings,
    bound: socket.socket,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Serve until SIGINT or SIGTERM comes, which is raised again at the end."""
    need("uvicorn", "serve")
    from serving.http_app import make_http_app

    def make(stopping: Callable[[], bool]) -> ASGIApp:
        return make_http_app(assistant, replace(settings, stopping=stopping))

    run_app(make, bound, ready)


def run_app(
    make: Callable[[Callable[[], bool]], ASGIApp], bound: socket.socket, ready: Callable[[], None]
) -> None:
    """Serve the application that is made with a function that says when it is to end."""
    uvicorn = need("uvicorn", "serve")
    config = uvicorn.Config(
        make(lambda: bool(server.should_exit)),
        log_level="warning",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=_GRACE,
    )
    server = uvicorn.Server(config)
    ready()
    server.run(sockets=[bound])
