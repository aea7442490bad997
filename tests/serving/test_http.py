"""The server against clients that mean harm, or know no better."""

from __future__ import annotations

import threading
import time
import typing

import httpx
import pytest
from openai.types import completion_create_params as text_params
from openai.types.chat import completion_create_params as chat_params

from domainlift.errors import Misuse
from serving.assistant import Assistant
from serving.http_app import MOST_BYTES
from serving.http_guard import Access
from serving.request_fields import IGNORED, IMPLEMENTED, REFUSED
from serving.uvicorn_server import open_socket
from tests.helpers.streaming_engine import EchoEngine
from tests.serving.conftest import Garden, Serve

CHAT = "/v1/chat/completions"
ASK = {"model": "base", "messages": [{"role": "user", "content": "one two three"}]}


def ask(**more: object) -> dict[str, object]:
    return {**ASK, **more}


@pytest.fixture
def http(serve: Serve, assistant: Assistant) -> typing.Iterator[httpx.Client]:
    with httpx.Client(base_url=serve(assistant).url, timeout=20) as client:
        yield client


MESSAGE = {"role": "user", "content": "x"}


WRONG: list[tuple[bytes | dict[str, object], str | None]] = [
    (b"", None),
    (b"{", None),
    (b"\xff\xfe\x00", None),
    (b"[" * 100_000, None),
    (b'{"messages": NaN}', None),
    (b"[1]", None),
    ({}, "messages"),
    ({"messages": []}, "messages"),
    ({"messages": "hello"}, "messages"),
    ({"messages": [3]}, "messages[0]"),
    ({"messages": [{"role": "poet", "content": "x"}]}, "messages[0].role"),
    ({"messages": [{**MESSAGE, "content": 3}]}, "messages[0].content"),
    ({"messages": [{**MESSAGE, "content": [{"type": "image_url"}]}]}, "messages[0].content[0]"),
    ({"messages": [{**MESSAGE, "function_call": {}}]}, "messages[0].function_call"),
    ({"messages": [{**MESSAGE, "tool_calls": [{}]}]}, "messages[0].tool_calls[0]"),
    (ask(n=2), "n"),
    (ask(n=True), "n"),
    (ask(temperature=True), "temperature"),
    (ask(temperature="hot"), "temperature"),
    (ask(temperature=3), "temperature"),
    (ask(top_p=-0.1), "top_p"),
    (ask(max_tokens=0), "max_tokens"),
    (ask(max_tokens=1.5), "max_tokens"),
    (ask(max_tokens=3, max_completion_tokens=4), "max_tokens"),
    (ask(seed="x"), "seed"),
    (ask(stop=[""]), "stop"),
    (ask(stop=[1]), "stop"),
    (ask(stream="yes"), "stream"),
    (ask(stream_options={"include_usage": True}), "stream_options"),
    (ask(stream=True, stream_options={"x": 1}), "stream_options.x"),
    (ask(top_logprobs=3), "top_logprobs"),
    (ask(logprobs=True, top_logprobs=21), "top_logprobs"),
    (ask(tools=[{}]), "tools[0]"),
    (ask(tool_choice="required"), "tool_choice"),
    (ask(response_format={"type": "json_object"}), "response_format"),
    (ask(logit_bias={"50256": -100}), "logit_bias"),
    (ask(parallel_tool_calls=False), "parallel_tool_calls"),
    (ask(min_tokens=3), "min_tokens"),
    (ask(domainlift={"footer": True}), "domainlift.footer"),
    (ask(domainlift={"options": []}), "domainlift.mode"),
    (ask(domainlift={"options": [1]}), "domainlift.options"),
    (ask(domainlift={"options": ["a"], "mode": "generate"}), "domainlift.mode"),
    (ask(domainlift={"options": ["a"]}, temperature=1), "domainlift.options"),
    (ask(model=3), "model"),
]


def test_what_is_wrong_is_named_in_the_shape_of_the_api(http: httpx.Client) -> None:
    for body, param in WRONG:
        given = {"content": body} if isinstance(body, bytes) else {"json": body}
        found = http.post(CHAT, **given)
        assert found.status_code == 400, body
        error = found.json()["error"]
        assert error["param"] == param, body
        assert error.keys() == {"message", "type", "param", "code"}
        assert error["message"]


def test_what_asks_for_nothing_is_fine(http: httpx.Client) -> None:
    nothing = dict.fromkeys((*REFUSED, *IGNORED, "unheard_of"))
    nothing |= {name: values[0] for name, values in REFUSED.items() if values}
    nothing |= {"user": "me", "metadata": {"a": "b"}, "store": True}
    assert http.post(CHAT, json=ask(**nothing)).status_code == 200


#: What each field of OpenAI's requests does to an answer; the rest is for books and caches.
CHANGES_NOTHING = {
    *("metadata", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention"),
    *("safety_identifier", "service_tier", "store", "user"),
}


@pytest.mark.parametrize(
    ("endpoint", "fields"),
    [
        ("chat", typing.get_type_hints(chat_params.CompletionCreateParamsStreaming).keys()),
        ("completions", typing.get_type_hints(text_params.CompletionCreateParamsStreaming).keys()),
    ],
)
def test_no_field_that_changes_an_answer_is_ignored(
    http: httpx.Client, endpoint: str, fields: typing.KeysView[str]
) -> None:
    read = IMPLEMENTED[endpoint]
    assert set(fields) <= read | REFUSED.keys() | IGNORED
    assert IGNORED == CHANGES_NOTHING
    assert not IGNORED & (read | REFUSED.keys())
    assert not read & REFUSED.keys()
    path, body = (
        ("/v1/completions", {"prompt": "a b"}) if endpoint == "completions" else (CHAT, ASK)
    )
    for name in set(fields) & REFUSED.keys():
        found = http.post(path, json={**body, name: {"an": "unusual value"}})
        assert (found.status_code, found.json()["error"]["param"]) == (400, name)


def test_paths_names_and_methods(http: httpx.Client) -> None:
    assert http.get("/v1//models").status_code == 200
    assert http.post("/v1//chat//completions", json=ASK).status_code == 200
    for method, path, status in (("GET", "/v2", 404), ("GET", CHAT, 405)):
        found = http.request(method, path)
        assert (found.status_code, found.json()["error"]["type"]) == (
            status,
            "invalid_request_error",
        )
    found = http.post(CHAT, json=ask(model="gpt-4"))
    assert (found.status_code, found.json()["error"]["code"]) == (404, "model_not_found")
    assert http.get("/health").json() == {"status": "ok", "plan": "first.yaml"}


def test_a_large_body_and_a_long_conversation(http: httpx.Client) -> None:
    found = http.post(CHAT, content=b"x" * (MOST_BYTES + 2_000_000))
    assert found.status_code == 413
    started = time.monotonic()
    found = http.post(CHAT, json=ask(messages=[{"role": "user", "content": "x" * 7_000_000}]))
    assert (found.status_code, found.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert time.monotonic() - started < 5
    turns = [{"role": ("user", "assistant")[n % 2], "content": "why?"} for n in range(1001)]
    found = http.post(CHAT, json=ask(messages=turns, model="auto"))
    assert (found.status_code, found.json()["error"]["code"]) == (400, "context_length_exceeded")
    assert http.post(CHAT, json=ASK).status_code == 200


def test_half_a_character_and_control_characters(http: httpx.Client) -> None:
    body = b'{"messages": [{"role": "user", "content": "a \\ud800 \\u0000 b"}]}'
    assert http.post(CHAT, content=body).status_code == 200


PAGES = [
    ({"host": "evil.example"}, 403),
    ({"host": "127.0.0.1.evil.example:80"}, 403),
    ({"host": "[::bad"}, 403),
    ({"origin": "https://evil.example"}, 403),
    ({"origin": "null"}, 403),
    ({"host": "localhost:1234", "origin": "http://127.0.0.1:99"}, 200),
    ({"authorization": "Bearer whatever"}, 200),
]


def test_a_page_of_another_site_is_refused(http: httpx.Client) -> None:
    for headers, status in PAGES:
        assert http.get("/v1/models", headers=headers).status_code == status, headers


def test_a_key_is_asked_for(serve: Serve, assistant: Assistant) -> None:
    url = serve(assistant, key="k").url
    assert httpx.get(f"{url}/v1/models").status_code == 401
    for key, status in (("no", 401), ("sésame", 401), ("k", 200)):
        headers = {"authorization": f"Bearer {key}".encode()}
        assert httpx.get(f"{url}/v1/models", headers=headers).status_code == status
    assert httpx.get(f"{url}/health").status_code == 200


def test_without_a_key_only_this_machine_is_bound() -> None:
    with pytest.raises(Misuse, match="no key is set"):
        Access("0.0.0.0")
    assert Access("0.0.0.0", "k").key == "k"
    with open_socket(Access(), 0) as bound, pytest.raises(Misuse, match="cannot listen"):
        open_socket(Access(), bound.getsockname()[1])


def test_replies_side_by_side_and_an_end_that_is_told(
    serve: Serve, assistant: Assistant, engine: EchoEngine
) -> None:
    served = serve(assistant)
    engine.pause = 0.05
    seen: list[str] = []

    def stream() -> None:
        body = ask(stream=True, messages=[{"role": "user", "content": "word " * 900}])
        seen.append(httpx.post(served.url + CHAT, json=body, timeout=30).text)

    threads = [threading.Thread(target=stream) for _ in range(45)]
    for thread in threads:
        thread.start()
    while len(engine.prompts) < len(threads):
        time.sleep(0.02)
    served.server.should_exit = True
    started = time.monotonic()
    for thread in threads:
        thread.join()
    assert time.monotonic() - started < 4
    ends = {text.rpartition("data: ")[2][:60] for text in seen}
    assert ends == {'{"error": {"message": "the server is stopping", "type": "ser'}


def test_a_plan_that_is_promoted_is_taken_over_and_no_request_is_lost(
    serve: Serve, assistant: Assistant, garden: Garden
) -> None:
    url, over = serve(assistant).url, threading.Event()
    lost: list[int] = []

    def client() -> None:
        body = {"messages": [{"role": "user", "content": "When are leeks sown?"}]}
        while not over.is_set():
            found = httpx.post(url + CHAT, json=body)
            if found.status_code != 200 or not found.json()["domainlift"]["supported"]:
                lost.append(found.status_code)

    threads = [threading.Thread(target=client) for _ in range(3)]
    for thread in threads:
        thread.start()
    garden.plan("second", created="2026-02-01")
    end = time.monotonic() + 20
    while httpx.get(f"{url}/health").json()["plan"] != "second.yaml" and time.monotonic() < end:
        time.sleep(0.1)
    time.sleep(0.2)
    over.set()
    for thread in threads:
        thread.join()
    assert httpx.get(f"{url}/health").json()["plan"] == "second.yaml"
    assert lost == []


TALK = [
    {"role": "system", "content": "Be short."},
    {"role": "user", "content": "one two three"},
    {"role": "assistant", "content": "one two"},
    {"role": "user", "content": "and then"},
]
#: What Open WebUI 0.12.4 sends: a chat, its own task of finding a title, and *Continue*.
OPEN_WEBUI = [
    {"stream": True, "model": "base", "messages": TALK},
    {"stream": True, "stream_options": {"include_usage": True}, "model": "base", "messages": TALK},
    {"model": "base", "messages": [MESSAGE], "stream": False, "max_tokens": 1000},
    {"stream": True, "model": "base", "messages": TALK[:-1], "temperature": 0.7, "seed": 3},
]


@pytest.mark.parametrize("body", OPEN_WEBUI)
def test_open_webui_is_answered(http: httpx.Client, body: dict[str, object]) -> None:
    assert {each["id"] for each in http.get("/v1/models").json()["data"]} >= {"auto", "base"}
    said = http.post(CHAT, json=body, headers={"X-OpenWebUI-User-Name": "Ada"})
    assert said.status_code == 200, said.text
    if not body["stream"]:
        assert said.json()["choices"][0]["message"]["content"]
        return
    assert said.headers["content-type"].startswith("text/event-stream")
    assert said.text.rstrip().endswith("data: [DONE]")
    assert ('"usage"' in said.text and '"total_tokens"' in said.text) is ("stream_options" in body)
