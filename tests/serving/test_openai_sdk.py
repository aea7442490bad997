"""The server as the clients of OpenAI's API see it."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import replace

import httpx
import openai
import pytest
from langchain_core.exceptions import ContextOverflowError
from langchain_core.messages import HumanMessage
from langchain_openai import ChatOpenAI

from domainlift.errors import BenchError, EngineDown
from serving.assistant import Assistant
from tests.helpers.streaming_engine import EchoEngine
from tests.serving.conftest import Garden, Serve

LEEKS = [{"role": "user", "content": "When are leeks sown?"}]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "the weather of a place",
        "parameters": {"type": "object", "properties": {"place": {"type": "string"}}},
    },
}
CALL = '<tool_call>\n{"name": "weather", "arguments": {"place": "Ghent"}}\n</tool_call>'


@pytest.fixture
def url(serve: Serve, assistant: Assistant) -> str:
    return serve(assistant).url + "/v1"


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=url, api_key="any", max_retries=0, timeout=20) as made:
        yield made


@pytest.fixture
def langchain(url: str) -> Iterator[Callable[..., ChatOpenAI]]:
    with httpx.Client() as http:
        settings = {"base_url": url + "/", "api_key": "any", "max_retries": 0, "http_client": http}
        yield lambda **more: ChatOpenAI(**settings, **more)


def test_models_are_listed_with_their_parents(client: openai.OpenAI) -> None:
    entries = {entry.id: entry for entry in client.models.list()}
    assert list(entries) == ["auto", "base", "law-v1"]
    parents = {name: entry.model_extra["parent"] for name, entry in entries.items()}
    assert parents == {"auto": None, "base": None, "law-v1": "base"}
    assert client.models.retrieve("law-v1").owned_by == "domainlift"
    with pytest.raises(openai.NotFoundError):
        client.models.retrieve("law-v2")


def test_a_reply_and_what_it_comes_from(client: openai.OpenAI) -> None:
    raw = client.chat.completions.with_raw_response.create(model="auto", messages=LEEKS)
    found = raw.parse()
    assert found.choices[0].message.content.endswith("When are leeks sown?")
    assert (found.model, found.choices[0].finish_reason) == ("base", "stop")
    assert found.usage.total_tokens == found.usage.prompt_tokens + found.usage.completion_tokens
    origin = found.model_extra["domainlift"]
    assert (origin["domain"], origin["supported"], origin["adapter"]) == ("garden", True, None)
    assert json.loads(raw.headers["x-domainlift-route"]) == "garden"
    assert json.loads(raw.headers["x-domainlift-sources"]) == ["garden.txt/leek"]


@pytest.mark.parametrize("usage", [False, True])
def test_a_stream_has_a_role_pieces_a_finish_and_usage_where_it_is_wanted(
    client: openai.OpenAI, usage: bool
) -> None:
    more = {"stream_options": {"include_usage": True}} if usage else {}
    chunks = list(
        client.chat.completions.create(
            model="law-v1", messages=LEEKS, stream=True, extra_body=more or None
        )
    )
    if usage:
        assert (chunks[-1].choices, chunks[-1].usage.completion_tokens) == ([], 4)
        chunks.pop()
    assert all(chunk.usage is None for chunk in chunks)
    assert chunks[0].choices[0].delta.role == "assistant"
    assert chunks[0].model_extra["domainlift"]["adapter"] == "law-v1"
    said = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    assert said == "WHEN ARE LEEKS SOWN?"
    assert [c.choices[0].finish_reason for c in chunks] == [None] * 5 + ["stop"]
    assert {chunk.model for chunk in chunks} == {"law-v1"}


def test_sources_stand_at_the_end_of_the_text_on_request(client: openai.OpenAI) -> None:
    for stream in (False, True):
        more = {"domainlift": {"sources": True}}
        found = client.chat.completions.create(
            model="auto", messages=LEEKS, stream=stream, extra_body=more
        )
        text = (
            "".join(chunk.choices[0].delta.content or "" for chunk in found)
            if stream
            else found.choices[0].message.content
        )
        assert text.endswith("sown?\n\nSources:\n[1] leek (garden.txt/leek)")


def test_settings_reach_the_engine(client: openai.OpenAI, engine: EchoEngine) -> None:
    client.chat.completions.create(
        model="base", messages=LEEKS, temperature=0.5, top_p=0.9, seed=7, stop=["x", "y"],
        presence_penalty=0.1, frequency_penalty=-0.2, max_completion_tokens=3,
    )  # fmt: skip
    got = engine.samplings[-1]
    assert (got.temperature, got.top_p, got.seed, got.stop) == (0.5, 0.9, 7, ("x", "y"))
    assert (got.presence_penalty, got.frequency_penalty, got.max_tokens) == (0.1, -0.2, 3)
    client.chat.completions.create(model="base", messages=LEEKS)
    got = engine.samplings[-1]
    assert (got.temperature, got.max_tokens, got.top_logprobs) == (0.0, None, None)


def test_the_limit_and_a_stop_string_end_a_reply(client: openai.OpenAI) -> None:
    ask = client.chat.completions.create
    cut = ask(model="base", messages=LEEKS, max_tokens=2).choices[0]
    assert (cut.message.content, cut.finish_reason) == ("When are", "length")
    stopped = ask(model="base", messages=LEEKS, stop="leeks").choices[0]
    assert (stopped.message.content, stopped.finish_reason) == ("When are", "stop")


def test_logprobs_in_both_shapes(client: openai.OpenAI) -> None:
    chat = client.chat.completions.create(
        model="base", messages=LEEKS, logprobs=True, top_logprobs=3
    )
    first = chat.choices[0].logprobs.content[0]
    assert (first.token, bytes(first.bytes), len(first.top_logprobs)) == ("When", b"When", 3)
    assert first.top_logprobs[2].logprob == -9999.0
    text = client.completions.create(model="base", prompt="When was it?", logprobs=2, max_tokens=2)
    legacy = text.choices[0].logprobs
    assert (legacy.tokens, legacy.text_offset) == (["When", " was"], [0, 4])
    assert legacy.top_logprobs[0].keys() == {"When", " A"}
    chunks = client.chat.completions.create(
        model="base", messages=LEEKS, logprobs=True, stream=True
    )
    streamed = [c.choices[0].logprobs.content for c in chunks if c.choices[0].logprobs]
    assert [[each.token for each in piece] for piece in streamed][:2] == [["When"], [" are"]]


def test_content_in_parts_null_content_and_results_of_tools(
    client: openai.OpenAI, engine: EchoEngine
) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "weather", "arguments": "{}"}}
    client.chat.completions.create(
        model="base",
        messages=[
            {"role": "developer", "content": [{"type": "text", "text": "Be short."}]},
            {
                "role": "user",
                "content": [{"type": "text", "text": "a"}, {"type": "text", "text": "b"}],
            },
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "tool_call_id": "c1", "content": "rain"},
        ],
        tools=[TOOL],
    )
    prompt = engine.prompts[-1]
    assert [(m.role, m.content) for m in prompt.messages] == [
        *(("system", "Be short."), ("user", "a\nb"), ("assistant", ""), ("tool", "rain"))
    ]
    assert prompt.messages[2].extra["tool_calls"] == [call]
    assert prompt.tools == (TOOL,)


def test_calls_of_tools_are_read_whole_and_in_a_stream(client: openai.OpenAI) -> None:
    ask = [{"role": "user", "content": f"Let me see. {CALL}"}]
    whole = client.chat.completions.create(model="base", messages=ask, tools=[TOOL]).choices[0]
    assert (whole.finish_reason, whole.message.content) == ("tool_calls", "Let me see. ")
    call = whole.message.tool_calls[0].function
    assert (call.name, json.loads(call.arguments)) == ("weather", {"place": "Ghent"})
    stream = client.chat.completions.create(model="base", messages=ask, tools=[TOOL], stream=True)
    choices = [chunk.choices[0] for chunk in stream]
    assert "".join(c.delta.content or "" for c in choices) == "Let me see. "
    (calls,) = [c.delta.tool_calls for c in choices if c.delta.tool_calls]
    assert (calls[0].index, calls[0].function.name) == (0, "weather")
    assert choices[-1].finish_reason == "tool_calls"
    plain = client.chat.completions.create(
        model="base", messages=ask, tool_choice="none", tools=[TOOL]
    )
    assert "<tool_call>" in plain.choices[0].message.content


def test_langchain_streams_and_reads_tools(langchain: Callable[..., ChatOpenAI]) -> None:
    chat = langchain(model="auto", stream_usage=True)
    said = list(chat.stream("When are leeks sown?"))
    assert "".join(str(chunk.content) for chunk in said).endswith("When are leeks sown?")
    assert any(chunk.usage_metadata for chunk in said)
    found = chat.bind_tools([TOOL]).invoke([HumanMessage(f"Where is the ship? {CALL}")])
    assert found.tool_calls[0]["args"] == {"place": "Ghent"}


def test_a_prompt_beyond_the_context_is_told_in_the_words_that_clients_look_for(
    client: openai.OpenAI, langchain: Callable[..., ChatOpenAI]
) -> None:
    long = "word " * 2000
    with pytest.raises(openai.BadRequestError, match="exceeds the context window") as error:
        client.completions.create(model="base", prompt=long)
    assert error.value.code == "context_length_exceeded"
    with pytest.raises(ContextOverflowError):
        langchain(model="base").invoke(long)


def test_an_error_in_the_middle_of_a_stream_is_raised_by_the_client(
    client: openai.OpenAI, engine: EchoEngine
) -> None:
    engine.trouble = EngineDown("the model is gone")
    with pytest.raises(openai.APIError, match="the model is gone"):
        list(client.chat.completions.create(model="base", messages=LEEKS, stream=True))
    with pytest.raises(openai.InternalServerError, match="the model is gone"):
        client.chat.completions.create(model="base", messages=LEEKS)


@pytest.mark.parametrize("stream", [True, False])
def test_a_client_that_goes_away_stops_its_decoding(
    client: openai.OpenAI, engine: EchoEngine, stream: bool
) -> None:
    engine.pause = 0.05
    ask = [{"role": "user", "content": "word " * 400}]
    with (
        pytest.raises(openai.APITimeoutError)
        if not stream
        else client.chat.completions.create(model="base", messages=ask, stream=True) as chunks
    ):
        if stream:
            next(iter(chunks))
        else:
            client.with_options(timeout=0.3).chat.completions.create(model="base", messages=ask)
    assert engine.gone.wait(2)
    assert engine.said < 40


def test_options_are_scored_where_they_are_given(client: openai.OpenAI, engine: EchoEngine) -> None:
    asked = {"domainlift": {"options": [" in March", " in May"]}}
    found = client.completions.create(
        model="auto", prompt="Question: When are leeks sown?\nAnswer:", extra_body=asked
    )
    told = found.model_extra["domainlift"]
    assert told["domain"] == "garden"
    best = max(range(2), key=told["logprobs"].__getitem__)
    assert found.choices[0].text == asked["domainlift"]["options"][best]
    (request,) = engine.asked
    assert request.prompt.text.startswith("<passages>")


def test_an_adapter_that_changes_nothing_is_refused(
    garden: Garden, engine: EchoEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = engine.stream
    monkeypatch.setattr(
        engine, "stream", lambda prompt, sampling: stream(replace(prompt, adapter=None), sampling)
    )
    with pytest.raises(BenchError, match="adapter `law-v1` leaves"):
        Assistant(engine, garden.root, garden.root / "plans" / "first.yaml")
