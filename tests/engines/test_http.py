"""Client of remote engines: retries, the circuit breaker, many requests at once."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Generator
from typing import TYPE_CHECKING

import pytest

from domainlift.errors import BenchError, EngineDown
from engines.base import Answer, Mode, Prompt, Request, Status
from engines.servers.http import (
    MOST_REFUSED,
    Retries,
    Server,
    answer_or_error,
    circuit_breaker,
    is_loopback,
    stream,
)
from engines.servers.responses import (
    ContextOverflow,
    Failure,
    error_message,
    error_text,
    get_path,
    with_text,
)

if TYPE_CHECKING:
    from tests.helpers.stub_server import Reply, Stub

AT_ONCE = Retries(3, 0, 0)


def client(stub: Stub, timeout: float = 5, retries: Retries = AT_ONCE) -> Server:
    return stub.keep(Server(stub.url, timeout, retries))


def requests(count: int) -> list[Request]:
    return [Request(str(i), Mode.LETTER, Prompt(f"prompt {i}"), (" A",)) for i in range(count)]


def answers(statuses: str) -> Generator[Answer, None, None]:
    for i, mark in enumerate(statuses):
        status = Status.OK if mark == "." else Status.ERROR
        yield Answer(str(i), status, error=f"because {i}", refused=mark == "r")


@pytest.mark.parametrize(
    ("statuses", "goes_on"),
    [
        ("rrrrrrrrrr.", True),
        (".rrrrrrrr", True),
        ("xxrxxrxxr.", True),
        (".xxxxr", True),
        (".rxxxxx", False),
        ("r" * (MOST_REFUSED - 1) + ".", True),
        ("r" * MOST_REFUSED, False),
        ("." + "r" * MOST_REFUSED, True),
    ],
)
def test_refusals_do_not_trip_the_breaker(statuses: str, goes_on: bool) -> None:
    passed = circuit_breaker(answers(statuses), "http://x")
    if goes_on:
        assert len(list(passed)) == len(statuses)
    else:
        with pytest.raises(EngineDown):
            list(passed)


@pytest.mark.parametrize(
    ("status", "refused"),
    [(s, True) for s in (400, 402, 406, 413, 415, 422, 451)]
    + [(s, False) for s in (401, 403, 404, 408, 409, 425, 429, 500, 501, 503)],
)
def test_what_a_server_refuses_for_good(
    stub: Stub, reply: type[Reply], status: int, refused: bool
) -> None:
    stub.on("/x", reply({"error": "no"}, status))
    server = client(stub)

    def ask(_: Request) -> Answer:
        server.post("/x", {})
        raise AssertionError

    answer = answer_or_error(requests(1)[0], ask)
    assert (answer.status, answer.refused) == (Status.ERROR, refused)
    assert f"{status}: no" in str(answer.error)
    assert len(stub.asked) == 1 or not refused


def test_a_query_goes_with_every_request(stub: Stub, reply: type[Reply]) -> None:
    stub.on("/v1/x?api-version=2&key=a", reply({"fine": 1}))
    server = stub.keep(Server(f"{stub.url}/v1/?api-version=2&key=a", 5, AT_ONCE))
    assert (server.get("/x"), server.post("/x", {})) == ({"fine": 1}, {"fine": 1})
    assert server.url == f"{stub.url}/v1?api-version=2&key=…"


def test_a_user_is_sent_and_not_shown(stub: Stub, reply: type[Reply]) -> None:
    stub.on("/x", reply("busy", 503), reply({"fine": 1}))
    server = stub.keep(Server(stub.url.replace("//", "//me:p%40ss@"), 5, AT_ONCE))
    assert server.get("/x") == {"fine": 1}
    assert stub.headers[-1]["Authorization"] == "Basic bWU6cEBzcw=="
    assert server.url == stub.url
    stub.close()
    with pytest.raises(Failure) as caught:
        server.get("/x")
    assert "p%40ss" not in caught.value.what


def test_a_redirect_is_followed_once_and_for_all(stub: Stub, reply: type[Reply]) -> None:
    moved = (("Location", f"{stub.url}/new/v1/models"),)
    stub.on("/v1/models", reply("", 308, headers=moved))
    stub.on("/new/v1/models", reply({"data": []}))
    stub.on("/new/v1/x", reply({"fine": 1}))
    server = stub.keep(Server(f"{stub.url}/v1", 5, AT_ONCE))
    assert server.get("/models") == {"data": []}
    assert server.post("/x", {}) == {"fine": 1}
    assert server.url == f"{stub.url}/new/v1"


@pytest.mark.parametrize("status", [301, 302, 307])
def test_a_redirect_that_is_not_followed_is_shown(
    stub: Stub, reply: type[Reply], status: int
) -> None:
    stub.on("/x", reply("", status, headers=(("Location", "http://me:p@elsewhere/x"),)))
    with pytest.raises(Failure, match="it has moved to `http://elsewhere/x`"):
        client(stub).post("/x", {})


def test_a_key_does_not_follow_to_another_host(stub: Stub, reply: type[Reply]) -> None:
    other = stub.url.replace("127.0.0.1", "localhost")
    stub.on("/models", reply("", 307, headers=(("Location", f"{other}/a/models"),)))
    stub.on("/a/models", reply({"data": []}))
    with pytest.raises(Failure, match="sends us to another host, `http://localhost"):
        client(stub).get("/models")


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_passing_failure_is_tried_again(stub: Stub, reply: type[Reply], status: int) -> None:
    stub.on("/x", reply("busy", status), reply("busy", status), reply({"fine": 1}))
    assert client(stub).post("/x", {}) == {"fine": 1}


@pytest.mark.parametrize("status", [400, 401, 404, 422, 501])
def test_a_lasting_failure_is_not(stub: Stub, reply: type[Reply], status: int) -> None:
    stub.on("/x", reply({"error": "no"}, status))
    with pytest.raises(Failure, match=f"the server answered {status}: no"):
        client(stub).post("/x", {})
    assert len(stub.asked) == 1


def test_tries_are_bounded(stub: Stub, reply: type[Reply]) -> None:
    stub.on("/x", reply("busy", 503))
    with pytest.raises(Failure, match="503: busy"):
        client(stub).post("/x", {})
    assert len(stub.asked) == 3


def test_a_dropped_connection_is_tried_again(stub: Stub, reply: type[Reply]) -> None:
    stub.on("/x", reply({"half": 1}, drop=True), reply({"fine": 1}))
    assert client(stub).post("/x", {}) == {"fine": 1}


def test_nobody_there(stub: Stub) -> None:
    stub.close()
    with pytest.raises(Failure, match="no connection to `http://127"):
        client(stub).get("/x")


def test_a_slow_server_meets_the_time_limit_once(stub: Stub, reply: type[Reply]) -> None:
    stub.on("/x", reply({}, delay=30))
    start = time.monotonic()
    with pytest.raises(Failure, match=r"no reply within 0\.2 s"):
        client(stub, 0.2).post("/x", {})
    assert time.monotonic() - start < 5
    assert len(stub.asked) == 1


def test_retry_after_is_heeded_up_to_the_longest_wait(stub: Stub, reply: type[Reply]) -> None:
    stub.on("/x", reply("busy", 503, headers=(("Retry-After", "900"),)), reply({}))
    start = time.monotonic()
    client(stub, 5, Retries(2, 0, 0.3)).post("/x", {})
    assert 0.25 < time.monotonic() - start < 5


@pytest.mark.parametrize("body", ["<html>", "[1]", "", "\x00\xff", "3"])
def test_garbage_is_one_short_line(stub: Stub, reply: type[Reply], body: str) -> None:
    stub.on("/x", reply(body))
    with pytest.raises(Failure, match="not a JSON object") as caught:
        client(stub).post("/x", {})
    assert "\n" not in caught.value.what


def test_what_cannot_be_sent_is_a_failure_of_that_request(stub: Stub) -> None:
    with pytest.raises(Failure, match="cannot be sent"):
        client(stub).post("/x", {"prompt": "\ud800"})


def test_a_proxy_does_not_stand_before_this_machine(
    stub: Stub, reply: type[Reply], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    stub.on("/x", reply({"fine": 1}))
    assert client(stub).get("/x") == {"fine": 1}


@pytest.mark.parametrize(
    ("url", "local"),
    [
        ("http://127.0.0.1:1", True),
        ("http://localhost/v1", True),
        ("http://[::1]:8", True),
        ("http://10.0.0.1", False),
        ("http://localhost.example.org", False),
    ],
)
def test_loopback(url: str, local: bool) -> None:
    assert is_loopback(url) is local


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ('{"error": "plain"}', "plain"),
        ('{"error": {"message": "inner", "type": "x"}}', "inner"),
        ('{"detail": "fast"}', "fast"),
        (json.dumps({"error": json.dumps({"error": {"message": "deep"}})}), "deep"),
        ("two\nlines", "two lines"),
        ("", "nothing"),
    ],
)
def test_the_sentence_in_an_error(text: str, found: str) -> None:
    assert error_text(text) == found


@pytest.mark.parametrize(
    ("text", "overflow"),
    [
        ("request (9000 tokens) exceeds the available context size (4096 tokens)", True),
        ("the prompt is longer than the context length currently available", True),
        ("This model's maximum context length is 4096 tokens", True),
        ("The decoder prompt is longer than the maximum model length of 4096", True),
        ("`inputs` tokens + `max_new_tokens` must be <= 2048", True),
        ("context canceled", False),
        ("context deadline exceeded", False),
        ("top_logprobs must be between 0 and 20", False),
    ],
)
def test_which_errors_mean_a_prompt_too_long(text: str, overflow: bool) -> None:
    assert isinstance(error_message(400, json.dumps({"error": text})), ContextOverflow) is overflow


def test_cut_ends_at_the_first_stop() -> None:
    for text, stops in (("one\ntwo END", ("END", "\n", "")), ("one", ("x",))):
        assert with_text(Answer("q"), text, None, stops, "stop", 9).text == "one"


def test_dig_finds_or_gives_none() -> None:
    assert get_path({"a": [{"b": 1}]}, "a", 0, "b") == 1
    assert [get_path({"a": [1]}, *path) for path in (("b",), ("a", 5), ("a", 0, "c"))] == [None] * 3


def test_settle_turns_a_failure_into_an_answer() -> None:
    def fail(error: BenchError) -> Answer:
        def ask(_: Request) -> Answer:
            raise error

        return answer_or_error(requests(1)[0], ask)

    assert fail(Failure("no")).status is Status.ERROR
    assert fail(ContextOverflow("long")).status is Status.TRUNCATED
    assert fail(BenchError("odd")).error == "odd"
    with pytest.raises(EngineDown):
        fail(EngineDown("gone"))


def test_the_breaker_trips_after_five_in_a_row_and_passes_none_of_them_on() -> None:
    passed: list[str] = []
    with pytest.raises(EngineDown, match="failed 5 times in a row: because 7") as caught:
        passed.extend(each.id for each in circuit_breaker(answers(".x.xxxxx."), "u"))
    assert passed == ["0", "1", "2"]
    assert "the same command" in str(caught.value.hint)


def test_fewer_than_five_in_a_row_pass() -> None:
    assert [each.id for each in circuit_breaker(answers("xxxx.xxxx"), "u")] == list("012345678")


def test_stream_with_one_worker_keeps_the_order() -> None:
    found = stream(requests(20), lambda request: Answer(request.id), 1)
    assert [each.id for each in found] == [str(i) for i in range(20)]


def test_stream_is_bounded_and_complete() -> None:
    lock, state = threading.Lock(), {"now": 0, "most": 0}

    def ask(request: Request) -> Answer:
        with lock:
            state["now"] += 1
            state["most"] = max(state["most"], state["now"])
        time.sleep(0.005)
        with lock:
            state["now"] -= 1
        return Answer(request.id)

    found = {each.id for each in stream(requests(40), ask, 4)}
    assert found == {str(i) for i in range(40)}
    assert 1 < state["most"] <= 4


def test_an_answer_comes_before_slower_ones() -> None:
    late = threading.Event()

    def ask(request: Request) -> Answer:
        if request.id == "0":
            late.wait(10)
        return Answer(request.id)

    found = stream(requests(3), ask, 2)
    assert next(found).id == "1"
    late.set()
    assert {each.id for each in found} == {"0", "2"}


def test_stream_stops_asking_when_closed_or_broken() -> None:
    asked: list[str] = []

    def ask(request: Request) -> Answer:
        asked.append(request.id)
        if request.id == "3":
            raise EngineDown("gone")
        return Answer(request.id)

    found = stream(requests(50), ask, 2)
    next(found)
    found.close()
    assert len(asked) < 10
    with pytest.raises(EngineDown):
        list(stream(requests(50), ask, 2))
    assert len(asked) < 20
    assert not [each for each in threading.enumerate() if each.name.startswith("ask")]


def test_closing_wakes_requests_under_way(stub: Stub, reply: type[Reply]) -> None:
    server = client(stub, 60)
    stub.on("/x", reply({}), reply({}, delay=60))

    def ask(request: Request) -> Answer:
        server.post("/x", {})
        return Answer(request.id)

    found = stream(requests(9), ask, 3, server.interrupt)
    next(found)
    start = time.monotonic()
    found.close()
    assert time.monotonic() - start < 5
    server.reset()
    stub.on("/x", reply({"fine": 1}))
    assert server.post("/x", {}) == {"fine": 1}
