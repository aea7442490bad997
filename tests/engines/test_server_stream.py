"""Replies of servers as they come: the shapes of real ones, good and bad."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest

from domainlift.errors import EngineDown, Misuse
from engines.base import Message, Prompt
from engines.servers.ollama import OllamaEngine
from engines.servers.openai import OpenAIEngine
from engines.streaming import PromptTooLong, ReplyDelta, Sampling, StreamingEngine

if TYPE_CHECKING:
    from tests.helpers.stub_server import Reply, Stub

MODELS, CHAT, TEXT = "/v1/models", "/v1/chat/completions", "/v1/completions"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}
CALL = {"id": "c", "type": "function", "function": {"name": "weather", "arguments": '{"at": 1}'}}
ASKED = Prompt(
    messages=(
        Message("user", "Which?"),
        Message("assistant", "", {"tool_calls": [CALL]}),
        Message("tool", "rain", {"tool_call_id": "c"}),
    ),
    tools=(TOOL,),
)
USAGE = {"choices": [], "usage": {"prompt_tokens": 12, "completion_tokens": 5}}


def events(*chunks: Any, end: str = "data: [DONE]\n\n") -> str:
    return "".join(f"data: {json.dumps(each, ensure_ascii=False)}\n\n" for each in chunks) + end


def delta(finish: str | None = None, **said: Any) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": said, "finish_reason": finish}]}


@pytest.fixture
def openai(stub: Stub, reply: type[Reply]) -> OpenAIEngine:
    stub.on(MODELS, reply({"data": [{"id": "m", "owned_by": "vllm"}]}))
    return stub.keep(OpenAIEngine(f"{stub.url}/v1"))


@pytest.fixture
def ollama(stub: Stub, reply: type[Reply]) -> OllamaEngine:
    stub.on("/api/version", reply({"version": "0.13.0"}))
    stub.on("/api/show", reply({"template": "{{ .Messages }}"}))
    stub.on("/api/tags", reply({"models": [{"name": "m:latest", "digest": "ab"}]}))
    return stub.keep(OllamaEngine("m", stub.url))


def ask(engine: StreamingEngine, prompt: Prompt = ASKED, **sampling: Any) -> list[ReplyDelta]:
    return list(engine.stream(prompt, Sampling(**sampling)))


def text(pieces: list[ReplyDelta]) -> str:
    return "".join(piece.text for piece in pieces)


def test_a_chat_of_openais_api(stub: Stub, reply: type[Reply], openai: OpenAIEngine) -> None:
    body = events(
        delta(role="assistant", content=""),
        delta(reasoning_content="hm"),
        delta(content="Ber\u2028n"),
        {"choices": [{"delta": {"content": "!"}, "logprobs": {"content": [
            {"token": "!", "logprob": -0.5, "bytes": [33],
             "top_logprobs": [{"token": "!", "logprob": -0.5}, {"token": "?", "logprob": -9e9}]},
        ]}}]},
        delta("length"),
        USAGE,
    )  # fmt: skip
    stub.on(CHAT, reply(": comment\n" + body))
    pieces = ask(openai, temperature=0.5, seed=3, max_tokens=9, top_logprobs=2, stop=("x",) * 6)
    assert isinstance(openai, StreamingEngine)
    assert text(pieces) == "Ber\u2028n!"
    assert "".join(piece.thought for piece in pieces) == "hm"
    [token] = [token for piece in pieces for token in piece.tokens]
    assert (token.raw, [other.logprob for other in token.top]) == (b"!", [-0.5, -9999.0])
    last = pieces[-1]
    assert (last.finish, last.prompt_tokens, last.output_tokens) == ("length", 12, 5)
    assert all(piece.finish is None for piece in pieces[:-1])
    [body] = stub.bodies(CHAT)
    wanted = {"stream": True, "seed": 3, "temperature": 0.5, "max_tokens": 9, "top_logprobs": 2}
    assert wanted.items() <= body.items()
    assert body["stream_options"] == {"include_usage": True}
    assert (body["tools"], body["messages"][1]["tool_calls"]) == ([TOOL], [CALL])
    assert body["messages"][2]["tool_call_id"] == "c"
    assert len(body["stop"]) == 4


def test_a_seed_and_a_limit_are_asked_for_where_they_are_wished(
    stub: Stub, reply: type[Reply], openai: OpenAIEngine, ollama: OllamaEngine
) -> None:
    stub.on(CHAT, reply(events(delta("stop", content="a"))))
    stub.on("/api/chat", reply([{"message": {"content": "a"}, "done": True}]))
    ask(openai)
    ask(ollama)
    assert not {"seed", "max_tokens", "logprobs"} & stub.bodies(CHAT)[0].keys()
    options = stub.bodies("/api/chat")[0]["options"]
    assert "seed" not in options
    assert options["num_predict"] == -1


def test_calls_of_tools_are_passed_on(stub: Stub, reply: type[Reply], openai: OpenAIEngine) -> None:
    parts = [{"index": 0, **CALL}, {"index": 0, "function": {"arguments": "}"}}]
    stub.on(CHAT, reply(events(*(delta(tool_calls=[part]) for part in parts), delta("tool_calls"))))
    pieces = ask(openai)
    assert [call for piece in pieces for call in piece.calls] == parts
    assert pieces[-1].finish == "tool_calls"


def test_plain_text_of_openais_api(stub: Stub, reply: type[Reply], openai: OpenAIEngine) -> None:
    logprobs = {"tokens": [" b"], "token_logprobs": [-1.0], "top_logprobs": [{" b": -1.0}]}
    stub.on(
        TEXT,
        reply(
            events(
                {"choices": [{"text": "a", "logprobs": None}]},
                {"choices": [{"text": " b", "logprobs": logprobs, "finish_reason": "stop"}]},
            )
        ),
    )
    pieces = ask(openai, Prompt("Why?", adapter="mine"), top_logprobs=1)
    assert text(pieces) == "a b"
    assert [t.text for piece in pieces for t in piece.tokens] == [" b"]
    assert stub.bodies(TEXT)[0]["model"] == "mine"
    assert stub.bodies(TEXT)[0]["logprobs"] == 1


def test_a_stop_string_that_the_server_ignores(
    stub: Stub, reply: type[Reply], openai: OpenAIEngine
) -> None:
    stub.on(CHAT, reply(events(*(delta(content=part) for part in ("a", "bS", "To", "p")))))
    pieces = ask(openai, stop=("SToP", "STop"))
    assert (text(pieces), pieces[-1].finish) == ("ab", "stop")


def test_lines_of_ollama(stub: Stub, reply: type[Reply], ollama: OllamaEngine) -> None:
    call = {"function": {"name": "weather", "arguments": {"at": 1}}}
    entry = {"token": "Bern", "logprob": -0.2, "top_logprobs": []}
    stub.on(
        "/api/chat",
        reply(
            [
                {"message": {"thinking": "hm", "content": ""}, "done": False},
                {"message": {"content": "Bern"}, "logprobs": [entry], "done": False},
                {"message": {"content": "", "tool_calls": [call]}, "done": False},
                {"done": True, "done_reason": "stop", "prompt_eval_count": 7, "eval_count": 3},
            ]
        ),
    )
    pieces = ask(ollama, max_tokens=9, top_logprobs=0, stop=("x",))
    assert text(pieces) == "Bern"
    assert "".join(piece.thought for piece in pieces) == "hm"
    [said] = [call for piece in pieces for call in piece.calls]
    assert (said["index"], said["function"]["arguments"]) == (0, '{"at": 1}')
    last = pieces[-1]
    assert (last.finish, last.prompt_tokens, last.output_tokens) == ("tool_calls", 7, 3)
    [body] = stub.bodies("/api/chat")
    assert body["messages"][1]["tool_calls"][0]["function"]["arguments"] == {"at": 1}
    assert (body["tools"], body["options"]["num_predict"]) == ([TOOL], 9)
    assert body["options"]["stop"] == ["x"]
    with pytest.raises(Misuse, match="not loaded"):
        ask(ollama, Prompt("a", adapter="none"))


@pytest.mark.parametrize(
    ("status", "body", "kind", "words"),
    [
        (400, {"error": {"message": "maximum model length is 9"}}, PromptTooLong, "length is 9"),
        (400, {"error": {"message": "no such tool"}}, Misuse, "no such tool"),
        (401, {"error": "no key"}, EngineDown, "no key"),
        (404, {"error": "no model"}, EngineDown, "no model"),
        (503, {"error": "too busy"}, EngineDown, "too busy"),
        (200, events(delta(content="a"), end=""), EngineDown, "dropped the connection"),
        (200, events({"error": {"message": "out of memory"}}), EngineDown, "out of memory"),
        (200, events(delta("content_filter")), Misuse, "content filter"),
    ],
)
def test_errors_have_the_servers_words(
    stub: Stub,
    reply: type[Reply],
    openai: OpenAIEngine,
    status: int,
    body: Any,
    kind: type[Exception],
    words: str,
) -> None:
    stub.on(CHAT, reply(body, status))
    with pytest.raises(kind, match=words) as caught:
        ask(openai)
    assert type(caught.value) is kind


def test_a_server_that_goes_away(stub: Stub, reply: type[Reply], ollama: OllamaEngine) -> None:
    stub.on("/api/chat", reply({"error": "model 'm' not found"}, 404))
    with pytest.raises(EngineDown, match="went away"):
        ask(ollama)
    stub.close()
    with pytest.raises(EngineDown, match=r"no connection|dropped"):
        ask(ollama)


@pytest.fixture
def endless() -> Iterator[tuple[str, threading.Event]]:
    """A server that writes on until its client hangs up, and then sets the event."""
    left = threading.Event()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"data": [{"id": "m"}]}')

        def do_POST(self) -> None:
            self.send_response(200)
            self.end_headers()
            with suppress(OSError):
                while not left.wait(0.01):
                    self.wfile.write(events(delta(content="on"), end="").encode())
                    self.wfile.flush()
            left.set()

        def log_message(self, *_: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/v1", left
    left.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_closing_a_reply_closes_the_connection(endless: tuple[str, threading.Event]) -> None:
    url, left = endless
    engine = OpenAIEngine(url)
    pieces = engine.stream(Prompt("Why?"), Sampling())
    assert next(pieces).text == "on"
    assert not left.is_set()
    pieces.close()
    assert left.wait(5)
    engine.close()
