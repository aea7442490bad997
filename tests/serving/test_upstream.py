"""The assistant in front of another OpenAI-compatible server, and servers side by side."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import replace

import httpx
import pytest

from engines.servers.openai import OpenAIEngine
from ensemble.plan import read_plan, write_plan
from serving.assistant import Assistant
from tests.helpers.streaming_engine import EchoEngine
from tests.serving.conftest import Garden, Serve

CHAT = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "weather", "parameters": {}}}
CALL = '<tool_call>{"name": "weather", "arguments": {"place": "Ghent"}}</tool_call>'


@pytest.fixture
def front(serve: Serve, assistant: Assistant, garden: Garden) -> Iterator[httpx.Client]:
    """A server whose engine is the base model of another server."""
    upstream = OpenAIEngine(serve(assistant).url + "/v1", "base")
    path = garden.plan("upstream")
    write_plan(path, replace(read_plan(path), model="base", digest=upstream.info.digest))
    with httpx.Client(base_url=serve(Assistant(upstream, garden.root, path)).url) as client:
        yield client
    upstream.close()


def ask(client: httpx.Client, text: str, **more: object) -> httpx.Response:
    body = {"messages": [{"role": "user", "content": text}], **more}
    return client.post(CHAT, json=body, timeout=20)


def test_routes_passages_and_adapters_are_the_same(front: httpx.Client, engine: EchoEngine) -> None:
    leeks = ask(front, "When are leeks sown?").json()
    assert leeks["domainlift"]["domain"] == "garden"
    assert leeks["choices"][0]["message"]["content"].startswith("<passages>")
    assert leeks["usage"]["completion_tokens"] > 4
    court = ask(front, "Which judge sits in this court?").json()
    assert (court["model"], engine.prompts[-1].adapter) == ("law-v1", "law-v1")
    assert court["choices"][0]["message"]["content"].startswith("WHICH JUDGE")


def test_streams_and_calls_of_tools_come_through(front: httpx.Client, engine: EchoEngine) -> None:
    for stream in (False, True):
        found = ask(front, f"Look: {CALL}", tools=[TOOL], stream=stream)
        assert '\\"Ghent\\"' in found.text
        assert found.text.count('"finish_reason": "tool_calls"' if stream else "tool_calls") > 0
    assert engine.prompts[-1].tools == (TOOL,)
    events = ask(front, "one two three", stream=True).text.split("\n\n")
    assert [json.loads(e[6:])["choices"][0]["delta"] for e in events[1:4]] == [
        *({"content": "one"}, {"content": " two"}, {"content": " three"})
    ]
    assert events[-2:] == ["data: [DONE]", ""]


def test_the_words_of_the_other_server_are_passed_on(front: httpx.Client) -> None:
    found = ask(front, "word " * 2000)
    assert (found.status_code, found.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert "exceeds the context window" in found.json()["error"]["message"]


def test_two_servers_of_one_workspace(serve: Serve, assistant: Assistant, garden: Garden) -> None:
    other = Assistant(EchoEngine(), garden.root, garden.plan())
    urls = [serve(each).url for each in (assistant, other)]
    body = {"messages": [{"role": "user", "content": "When are leeks sown?"}]}
    told = [httpx.post(url + CHAT, json=body).json()["domainlift"] for url in urls * 2]
    assert all(each == told[0] for each in told)
    other.close()
