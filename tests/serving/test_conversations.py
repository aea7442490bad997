"""`bench serve --record`: chats become traces, and a chat that goes on stays one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from engines.base import Prompt
from engines.streaming import ReplyDelta, Sampling
from serving.assistant import Assistant
from tests.helpers.streaming_engine import EchoEngine
from tests.serving.conftest import Garden, Serve
from traces.store import TraceStore

CHAT = "/v1/chat/completions"
TOOL = {"type": "function", "function": {"name": "add", "parameters": {"type": "object"}}}
CALL = '<tool_call>\n{"name": "add", "arguments": {"a": 1}}\n</tool_call>'


class Says(EchoEngine):
    """Says its texts in turn, and echoes where it has none."""

    def __init__(self) -> None:
        super().__init__()
        self.texts: list[str] = []

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[ReplyDelta]:
        if not self.texts:
            yield from super().stream(prompt, sampling)
            return
        yield ReplyDelta(self.texts.pop(0))
        yield ReplyDelta(finish="stop")


class Talk:
    """A client that keeps its conversation, and the traces that come of it."""

    def __init__(self, http: httpx.Client, store: TraceStore) -> None:
        self.http, self.store = http, store
        self.messages: list[dict[str, Any]] = []

    def say(self, content: str, role: str = "user", **more: Any) -> dict[str, Any]:
        call = {"tool_call_id": more.pop("call")} if "call" in more else {}
        self.messages.append({"role": role, "content": content, **call})
        body = {"model": "base", "messages": self.messages, **more}
        message: dict[str, Any] = self.http.post(CHAT, json=body).json()["choices"][0]["message"]
        self.messages.append(message)
        return message


@pytest.fixture
def talk(request: pytest.FixtureRequest, garden: Garden, serve: Serve) -> Iterator[Talk]:
    engine = Says()
    assistant = Assistant(engine, garden.root, garden.root / "plans" / "first.yaml")
    engine.texts = list(request.param)
    with httpx.Client(base_url=serve(assistant, record=True).url, timeout=20) as http:
        yield Talk(http, TraceStore(garden.root))
    assistant.close()


def roles(talk: Talk) -> list[list[str]]:
    return [[message["role"] for message in trace.messages] for trace in talk.store.all()]


@pytest.mark.parametrize("talk", [("<think>Hm.</think>One.", "Two.", "Three.")], indirect=True)
def test_a_conversation_that_goes_on_is_one_trace(talk: Talk) -> None:
    talk.say("Count.")
    talk.messages[-1]["content"] = "One."  # as clients do that show no thoughts
    talk.say("On.")
    talk.say("On.")
    [trace] = talk.store.all()
    assert [m["content"] for m in trace.messages] == [
        *("Count.", "One.", "On.", "Two.", "On.", "Three.")
    ]
    assert trace.messages[1]["reasoning_content"] == "Hm."
    assert (trace.status, trace.turns, trace.model) == ("done", 3, "base")


@pytest.mark.parametrize("talk", [("One.", "Two.", "2.", "Three.")], indirect=True)
def test_a_branch_is_a_trace_of_its_own(talk: Talk) -> None:
    talk.say("Count.")
    talk.say("On.")
    earlier = list(talk.messages)
    del talk.messages[2:]
    talk.say("In digits.")
    talk.messages = earlier
    talk.say("On.")
    assert sorted(map(len, roles(talk))) == [4, 6]


@pytest.mark.parametrize("talk", [(CALL, "It is 2.", "Hello.")], indirect=True)
def test_calls_and_their_results_are_in_the_trace(talk: Talk) -> None:
    message = talk.say("1 + 1?", tools=[TOOL])
    [trace] = talk.store.all()
    assert (trace.status, trace.why) == ("unfinished", "the results of its calls have not come")
    talk.say("2", "tool", call=message["tool_calls"][0]["id"], tools=[TOOL])
    [trace] = talk.store.all()
    assert [m["role"] for m in trace.messages] == ["user", "assistant", "tool", "assistant"]
    [call] = trace.messages[1]["tool_calls"]
    assert call["id"] == trace.messages[2]["tool_call_id"]
    assert (trace.status, trace.why, trace.called) == ("done", "", {"add": 1})
    assert trace.tools == (TOOL,)
    talk.say("Hello.")  # without tools it is another conversation
    assert len(roles(talk)) == 2


@pytest.mark.parametrize("talk", [("In march.", "Yes.")], indirect=True)
def test_sources_at_the_end_of_a_reply_are_not_in_the_trace(talk: Talk) -> None:
    wish = {"domainlift": {"sources": True}, "model": "auto"}
    assert "\n\nSources:\n[1] leek" in talk.say("When are leeks sown?", **wish)["content"]
    talk.say("Are they sown in march?", **wish)
    [trace] = talk.store.all()
    assert [m["content"] for m in trace.messages[1::2]] == ["In march.", "Yes."]


@pytest.mark.parametrize("talk", [("One.",)], indirect=True)
def test_completions_and_options_are_no_conversations(talk: Talk) -> None:
    body = {"model": "base", "prompt": "Count."}
    assert talk.http.post("/v1/completions", json=body).status_code == 200
    assert roles(talk) == []


def test_nothing_is_recorded_unless_it_is_wished(
    serve: Serve, assistant: Assistant, garden: Garden
) -> None:
    body = {"model": "base", "messages": [{"role": "user", "content": "one two"}], "stream": True}
    assert httpx.post(serve(assistant).url + CHAT, json=body).status_code == 200
    assert TraceStore(garden.root).ids() == []
    assert httpx.post(serve(assistant, record=True).url + CHAT, json=body).status_code == 200
    [trace] = TraceStore(garden.root).all()
    assert trace.messages[1] == {"role": "assistant", "content": "one two"}
