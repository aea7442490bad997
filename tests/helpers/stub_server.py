"""HTTP server on this machine that replies what a test tells it to."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Protocol, TypeVar


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
