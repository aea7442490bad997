"""HTTP server on this machine with the OpenAI API, whose answers are a hash of the prompt."""

from __future__ import annotations

import hashlib
import json
import threading
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class ModelServer:
    """Serves the OpenAI API; letters are a hash of the prompt, texts are `text` with `choice`."""

    def __init__(self) -> None:
        self.delay = 0.0
        self.listing_delay = 0.0
        self.text = " The answer is B."
        self.choice: dict[str, Any] = {"finish_reason": "stop"}
        self.refuse = "\0"
        self.asked: list[str] = []
        self.listed = threading.Event()
        self._over = threading.Event()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._http.daemon_threads = True
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,))
        self._thread.start()

    @property
    def model(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}/v1#stub"

    def close(self) -> None:
        self._over.set()
        self._http.shutdown()
        self._http.server_close()
        self._thread.join()

    def reply(self, body: dict[str, Any]) -> tuple[int, object]:
        prompt = str(body.get("prompt", body.get("messages")))
        self.asked.append(prompt)
        self._over.wait(self.delay)
        if self.refuse in prompt:
            return 400, {"error": {"message": "this prompt is refused"}}
        usage = {"prompt_tokens": len(prompt.split()), "completion_tokens": 1}
        if "logprobs" not in body:
            return 200, {"choices": [{"text": self.text, **self.choice}], "usage": usage}
        digest = hashlib.sha256(prompt.encode()).digest()
        top = {f" {letter}": -2.0 - digest[n] / 50 for n, letter in enumerate("ABCD")}
        logprobs = {"top_logprobs": [top]}
        return 200, {"choices": [{"text": " A", "logprobs": logprobs}], "usage": usage}

    def models(self) -> object:
        self.listed.set()
        self._over.wait(self.listing_delay)
        return {"data": [{"id": "stub"}]}

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        server = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            disable_nagle_algorithm = True

            def do_GET(self) -> None:
                self._send(200, server.models())

            def do_POST(self) -> None:
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                self._send(*server.reply(body))

            def _send(self, status: int, value: object) -> None:
                data = json.dumps(value).encode()
                with suppress(OSError):
                    self.send_response(status)
                    self.send_header("Content-Length", str(len(data)))
                    self.end_headers()
                    self.wfile.write(data)

            def log_message(self, *_: object) -> None:
                pass

        return Handler
