"""The OpenAI-compatible engine against a server that replays the shapes of the real ones."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import pytest

from domainlift.errors import EngineDown, Misuse
from engines.base import Message, Mode, Prompt, Request, Status
from engines.servers.http import Retries
from engines.servers.openai import OpenAIEngine, parse_openai_name
from tests.helpers.chat_templates import CHATML, LLAMA31

if TYPE_CHECKING:
    from tests.helpers.stub_server import Reply, Stub

AT_ONCE = Retries(3, 0, 0)
AB = (" A", " B")
ENTRY = {"id": "m", "owned_by": "vllm", "root": "Qwen/Qwen2.5-3B", "max_model_len": 4096}
TEXT, CHAT, MODELS = "/v1/completions", "/v1/chat/completions", "/v1/models"


def letter(name: str = "q") -> Request:
    return Request(name, Mode.LETTER, Prompt(f"Question {name}?\nAnswer:"), AB)


def chat() -> Request:
    turns = (Message("system", "Be short."), Message("user", "Which?"))
    return Request("q", Mode.LETTER, Prompt(messages=turns), ("A", "B"))


def open_reply(stop: tuple[str, ...] = ()) -> Request:
    return Request("q", Mode.GENERATE, Prompt("Why?"), stop=stop, max_tokens=64)


USAGE = {"prompt_tokens": 12, "completion_tokens": 1}
LISTED = [{"token": "B", "logprob": math.log(0.7)}, {"token": "A", "logprob": math.log(0.2)}]


def legacy(text: str = " B") -> dict[str, Any]:
    top = {" B": math.log(0.6), "B": math.log(0.1), " A": math.log(0.2)}
    choice = {"text": text, "logprobs": {"tokens": [text], "top_logprobs": [top]}}
    return {"choices": [choice], "usage": USAGE}


def chat_shaped(**choice: Any) -> dict[str, Any]:
    logprobs = {"content": [{"token": "B", "logprob": -0.3, "top_logprobs": LISTED}]}
    return {"choices": [{"logprobs": logprobs, **choice}], "usage": USAGE}


def plain(text: str, **choice: Any) -> dict[str, Any]:
    return {"choices": [{"text": text, "logprobs": None, **choice}], "usage": USAGE}


@pytest.fixture
def server(stub: Stub, reply: type[Reply]) -> Stub:
    """A vLLM that serves the model `m`."""
    stub.on(MODELS, reply({"data": [ENTRY]}))
    stub.on(TEXT, reply(legacy()))
    message = {"role": "assistant", "content": "B"}
    stub.on(CHAT, reply(chat_shaped(message=message)))
    return stub


def engine(stub: Stub, **more: Any) -> OpenAIEngine:
    return stub.keep(OpenAIEngine(f"{stub.url}/v1", **{"retries": AT_ONCE, **more}))


def test_letters_of_plain_text(server: Stub) -> None:
    [answer] = engine(server).answer([letter()])
    assert [math.exp(each) for each in answer.logprobs] == pytest.approx([0.2, 0.7])
    assert answer.mass == pytest.approx(0.9)
    assert (answer.greedy, answer.n_bounded, answer.prompt_tokens) == ((False, True), 0, 12)
    [body] = server.bodies(TEXT)
    wanted = {"model": "m", "max_tokens": 1, "logprobs": 20, "temperature": 0, "seed": 0}
    assert wanted.items() <= body.items()
    assert body["prompt"] == "Question q?\nAnswer:"
    assert body["repetition_penalty"] == 1.0


def test_letters_of_a_chat(server: Stub) -> None:
    [answer] = engine(server).answer([chat()])
    assert [math.exp(each) for each in answer.logprobs] == pytest.approx([0.2, 0.7])
    [body] = server.bodies(CHAT)
    assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 20, 1)
    assert [turn["role"] for turn in body["messages"]] == ["system", "user"]


def test_a_completion_may_have_the_shape_of_a_chat(server: Stub, reply: type[Reply]) -> None:
    server.on(TEXT, reply(chat_shaped(text=" B")))
    [answer] = engine(server).answer([letter()])
    assert [math.exp(each) for each in answer.logprobs] == pytest.approx([0.2, 0.7])


def test_only_servers_that_say_who_they_are_get_their_own_options(
    server: Stub, reply: type[Reply]
) -> None:
    for owner, name in (("llamacpp", "repeat_penalty"), ("someone", None)):
        server.on(MODELS, reply({"data": [{**ENTRY, "owned_by": owner}]}))
        list(engine(server).answer([letter()]))
        own = {"repeat_penalty", "repetition_penalty"} & set(server.bodies(TEXT)[-1])
        assert own == ({name} if name else set())


@pytest.mark.parametrize("text", ["logprobs must be <= 5", "top_n_tokens must be <= 5"])
def test_a_cap_on_alternatives_is_met_once_and_remembered(
    server: Stub, reply: type[Reply], text: str
) -> None:
    capped = reply({"error": {"message": text}}, 400)
    server.on(TEXT, capped, reply(legacy()))
    able = engine(server, concurrency=1)
    found = list(able.answer([letter("1"), letter("2")]))
    assert all(len(each.logprobs) == 2 for each in found)
    assert [body["logprobs"] for body in server.bodies(TEXT)] == [20, 5, 5]
    assert able.info.notes == ()


def test_refused_logprobs_are_read_by_text(server: Stub, reply: type[Reply]) -> None:
    no = reply({"message": "logprobs is not supported"}, 400)
    server.on(TEXT, no, no, reply(plain(" B")))
    able = engine(server, concurrency=1)
    assert [each.text for each in able.answer([letter("1"), letter("2")])] == [" B", " B"]
    [note] = able.info.notes
    assert "no log-probabilities" in note
    assert len(server.bodies(TEXT)) == 4


def test_absent_logprobs_are_read_by_text_and_noted_once(server: Stub, reply: type[Reply]) -> None:
    server.on(TEXT, reply(plain(" B")))
    able = engine(server, concurrency=4)
    found = list(able.answer([letter(str(i)) for i in range(12)]))
    assert {(each.text, each.logprobs) for each in found} == {(" B", ())}
    assert len(able.info.notes) == 1
    assert server.bodies(TEXT)[-1]["max_tokens"] == 8


def test_an_end_token_first_is_an_empty_reply(server: Stub, reply: type[Reply]) -> None:
    server.on(TEXT, reply(plain("")), reply(legacy()))
    able = engine(server, concurrency=1)
    one, two = able.answer([letter("1"), letter("2")])
    assert (one.text, one.logprobs, len(two.logprobs)) == ("", (), 2)
    assert able.info.notes == ()


def test_generation_sends_four_stops_and_cuts_at_the_rest(server: Stub, reply: type[Reply]) -> None:
    server.on(TEXT, reply(plain("Because. Q: next", finish_reason="length")))
    [answer] = engine(server).answer([open_reply(("a1", "b1", "c1", "d1", " Q:"))])
    assert (answer.status, answer.text) == (Status.OK, "Because.")
    [body] = server.bodies(TEXT)
    assert (body["stop"], body["max_tokens"]) == (["a1", "b1", "c1", "d1"], 64)
    assert "logprobs" not in body


ASKED = 64
PARTS = [{"type": "thinking", "thinking": [{"text": "B?"}]}, {"type": "text", "text": "C"}]
WHOLE = [
    # a choice of the reply, tokens of it -> text, thought, whether it was cut off
    ({"text": "B", "finish_reason": "length"}, 3, ("B", None, True)),
    ({"text": "B", "finish_reason": "stop"}, ASKED, ("B", None, False)),
    ({"text": "B", "finish_reason": "MAX_TOKENS"}, 3, ("B", None, True)),
    ({"text": "B", "finish_reason": "model_length"}, 3, ("B", None, True)),
    # Without a reason the length tells.
    ({"text": "B"}, ASKED, ("B", None, True)),
    ({"text": "B"}, ASKED - 1, ("B", None, False)),
    # A stop string that is found here ended the reply before the limit did.
    ({"text": "B\n\nQuestion: ", "finish_reason": "length"}, ASKED, ("B", None, False)),
    ({"message": {"content": "C", "reasoning_content": "B?"}}, 3, ("C", "B?", False)),
    ({"message": {"content": "C", "reasoning": "B?"}}, 3, ("C", "B?", False)),
    (
        {"message": {"content": None, "reasoning_content": "Is it"}, "finish_reason": "length"},
        *(3, ("", "Is it", True)),
    ),
    (
        {
            "message": {
                "content": [{"type": "thinking", "thinking": [{"text": "B?"}]}, {"text": "C"}]
            }
        },
        *(3, ("C", "B?", False)),
    ),
    (
        {
            "message": {
                "content": [{"type": "reasoning", "text": "B?"}, {"type": "text", "text": "C"}]
            }
        },
        *(3, ("C", "B?", False)),
    ),
    (
        {"message": {"content": None, "function_call": {"name": "f"}}},
        *(3, ('\n<tool_call>\n{"function": {"name": "f"}}\n</tool_call>', None, False)),
    ),
    ({"message": {"content": 5, "reasoning": {"odd": 1}}}, 3, ("", None, False)),
    (
        {"message": {"content": None, "tool_calls": [{"function": {"name": "f"}}]}},
        *(3, ('\n<tool_call>\n{"function": {"name": "f"}}\n</tool_call>', None, False)),
    ),
    ({"message": {"content": "C", "tool_calls": "odd"}}, 3, ("C", None, False)),
]


@pytest.mark.parametrize(("choice", "tokens", "told"), WHOLE)
def test_what_the_server_thought_and_whether_the_limit_cut_it_off(
    server: Stub,
    reply: type[Reply],
    choice: dict[str, Any],
    tokens: int,
    told: tuple[str, str | None, bool],
) -> None:
    usage = {"prompt_tokens": 2, "completion_tokens": tokens}
    server.on(TEXT, reply({"choices": [choice], "usage": usage}))
    [answer] = engine(server).answer([open_reply(("\n\n",))])
    assert (answer.text, answer.thought, answer.cut_off) == told
    assert answer.status is Status.OK


FILTERED = "the server's content filter ended the reply"


@pytest.mark.parametrize(
    ("reason", "refused", "error"),
    [
        ("content_filter", True, FILTERED),
        ("SAFETY", True, FILTERED),
        ("abort", False, "the server broke the reply off: `abort`"),
        ("insufficient_system_resource", False, None),
    ],
)
def test_a_reply_that_the_model_did_not_end_is_an_error_with_its_reason(
    server: Stub, reply: type[Reply], reason: str, refused: bool, error: str | None
) -> None:
    server.on(TEXT, reply(plain("The answer is 4", finish_reason=reason)))
    [answer] = engine(server).answer([open_reply()])
    assert (answer.status, answer.refused) == (Status.ERROR, refused)
    assert error in (None, answer.error)


@pytest.mark.parametrize(("status", "inside"), [(200, False), (200, True), (403, False)])
def test_a_refusal_by_moderation_is_asked_once(
    server: Stub, reply: type[Reply], status: int, inside: bool
) -> None:
    error = {"error": {"code": 403, "message": "flagged by moderation"}}
    server.on(TEXT, reply(error if not inside else plain("", **error), status))
    [answer] = engine(server).answer([open_reply()])
    assert (answer.refused, answer.error) == (
        *(True, "the server answered 403: flagged by moderation"),
    )
    assert len(server.bodies(TEXT)) == 1


def test_another_model_than_the_one_that_was_asked_is_noted_and_told_apart(
    server: Stub, reply: type[Reply]
) -> None:
    server.on("/v1/models", reply({"data": [{"id": "other", "meta": {"size": 7}}]}))
    server.on(TEXT, reply({**plain("4"), "model": "other"}))
    asked = engine(server, model="m")
    list(asked.answer([open_reply(), open_reply()]))
    assert asked.info.notes == (
        "the server lists `other`, and not `m`.",
        "`m` is answered by `other`, as the server says.",
    )
    server.on("/v1/models", reply({"data": [{"id": "other", "meta": {"size": 8}}]}))
    assert engine(server, model="m").info.digest != asked.info.digest
    server.on("/v1/models", reply({"data": [{"id": "m:latest"}, {"id": "n"}]}))
    assert engine(server, model="m").info.notes == ()


def test_many_at_once_up_to_the_limit(server: Stub, reply: type[Reply]) -> None:
    server.on(TEXT, reply(legacy(), delay=0.02))
    found = list(engine(server, concurrency=4).answer([letter(str(i)) for i in range(24)]))
    assert {each.id for each in found} == {str(i) for i in range(24)}
    assert 1 < server.most_at_once <= 4


@pytest.mark.parametrize(
    "text",
    ["This model's maximum context length is 4096 tokens", "exceeds the available context size"],
)
def test_a_prompt_too_long_is_truncated(server: Stub, reply: type[Reply], text: str) -> None:
    server.on(TEXT, reply({"error": {"message": text}}, 400))
    found = list(engine(server).answer([letter(str(i)) for i in range(9)]))
    assert {each.status for each in found} == {Status.TRUNCATED}


@pytest.mark.parametrize("status", [500, 503, 429])
def test_a_busy_server_is_asked_again(server: Stub, reply: type[Reply], status: int) -> None:
    server.on(TEXT, reply("busy", status), reply({}, drop=True), reply(legacy()))
    [answer] = engine(server).answer([letter()])
    assert answer.status is Status.OK


@pytest.mark.parametrize(
    ("bad", "error"),
    [
        ({"body": "<html>"}, "not a JSON object"),
        ({"body": {"choices": []}}, "holds no `choices`"),
        ({"body": {"error": "odd"}, "status": 400}, "answered 400: odd"),
        ({"body": legacy(), "delay": 30}, "no reply within 2 s"),
    ],
    ids=["html", "empty", "400", "slow"],
)
def test_a_failure_is_an_answer_that_says_what_happened(
    server: Stub, reply: type[Reply], bad: dict[str, Any], error: str
) -> None:
    server.on(TEXT, reply(**bad))
    # A limit on each request, also on that for the list: on busy cores half a second is none.
    limit = 2 if "delay" in bad else 30
    [answer] = engine(server, timeout=limit).answer([letter()])
    assert answer.status is Status.ERROR
    assert error in str(answer.error)


def test_the_breaker_trips_after_five(server: Stub, reply: type[Reply]) -> None:
    server.on(TEXT, reply("broken", 500))
    with pytest.raises(EngineDown, match="5 times in a row") as caught:
        list(engine(server, concurrency=2).answer([letter(str(i)) for i in range(99)]))
    assert "resumes the run" in str(caught.value.hint)
    assert len(server.bodies(TEXT)) <= 8 * AT_ONCE.tries


def test_a_date_in_a_servers_template_is_said_and_told_apart(
    server: Stub, reply: type[Reply]
) -> None:
    server.on(MODELS, reply({"data": [{"id": "m", "owned_by": "llamacpp"}]}))
    for template, dated in ((LLAMA31, True), (CHATML, False)):
        server.on("/props", reply({"model_path": "/a.gguf", "chat_template": template}))
        info = engine(server).info
        assert ("date" in info.options, len(info.notes)) == (dated, dated)


def test_what_servers_tell_of_a_model_is_part_of_what_it_is(
    server: Stub, reply: type[Reply]
) -> None:
    assert engine(server).info.options["root"] == "Qwen/Qwen2.5-3B"
    assert engine(server).info.options["server"] == f"{server.url}/v1"
    server.on(MODELS, reply({"data": [{"id": "m", "owned_by": "llamacpp"}]}))
    server.on("/props", reply({"model_path": "/a.gguf", "chat_template": "x", "build_info": "b1"}))
    one = engine(server).info
    assert (one.options["model_path"], len(str(one.options["template"]))) == ("/a.gguf", 16)
    server.on("/props", reply({"model_path": "/b.gguf", "chat_template": "x", "build_info": "b2"}))
    two = engine(server).info
    differing = {key for key in one.options if one.options[key] != two.options.get(key)}
    assert differing == {"model_path"}
    server.on("/props", reply("no", 501))
    assert "model_path" not in engine(server).info.options
    server.on(MODELS, reply({"data": [{"id": "m:1b", "owned_by": "library"}]}))
    server.on("/api/tags", reply({"models": [{"name": "m:1b", "digest": "abc"}]}))
    assert engine(server).info.options["digest"] == "abc"


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("path", [MODELS, TEXT])
def test_a_missing_key_stops_the_run(
    server: Stub, reply: type[Reply], status: int, path: str
) -> None:
    server.on(path, reply({"error": "who are you"}, status))
    with pytest.raises(EngineDown, match="refuses us") as caught:
        list(engine(server).answer([letter()]))
    assert "BENCH_API_KEY" in str(caught.value.hint)


def test_where_the_url_says_who_asks_a_key_would_not_help(server: Stub, reply: type[Reply]) -> None:
    server.on(MODELS, reply({"error": "who are you"}, 401))
    with pytest.raises(EngineDown, match="refuses us") as caught:
        OpenAIEngine(server.url.replace("://", "://me:hush@") + "/v1", "m")
    assert "user and the password in the URL" in str(caught.value.hint)
    assert "hush" not in f"{caught.value.what} {caught.value.hint}"


def test_the_key_is_sent(server: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("BENCH_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    engine(server)
    monkeypatch.setenv("OPENAI_API_KEY", "theirs")
    engine(server)
    monkeypatch.setenv("BENCH_API_KEY", "ours")
    engine(server)
    engine(server, api_key="given")
    sent = [headers.get("Authorization") for headers in server.headers]
    assert sent == [None, "Bearer theirs", "Bearer ours", "Bearer given"]


def test_a_model_that_is_not_there_stops_the_run(server: Stub, reply: type[Reply]) -> None:
    server.on(TEXT, reply({"error": {"message": "The model `x` does not exist."}}, 404))
    with pytest.raises(EngineDown, match="does not serve `x`") as caught:
        list(engine(server, model="x").answer([letter()]))
    assert "`m`" in str(caught.value.hint)


def test_nobody_there(stub: Stub) -> None:
    stub.close()
    with pytest.raises(EngineDown, match="no model server answers at"):
        engine(stub)


def test_the_only_model_needs_no_name(server: Stub, reply: type[Reply]) -> None:
    assert engine(server).info.model == "m"
    server.on(MODELS, reply({"data": [ENTRY, {"id": "n"}]}))
    with pytest.raises(Misuse, match="several models: `m`, `n`") as caught:
        engine(server)
    assert "#NAME" in str(caught.value.hint)


def test_a_server_without_a_list_needs_a_name(server: Stub, reply: type[Reply]) -> None:
    server.on(MODELS, reply("", 404))
    assert engine(server, model="tgi").info.model == "tgi"
    with pytest.raises(Misuse, match="lists no model"):
        engine(server)


def test_info(server: Stub) -> None:
    info = engine(server).info
    assert (info.engine, info.model, info.context) == ("openai", "m", 4096)
    assert info.modes == {Mode.LETTER, Mode.GENERATE}
    assert info.options["temperature"] == 0


def test_the_digest_stays_when_the_server_is_started_again(
    server: Stub, reply: type[Reply]
) -> None:
    def digest(**more: Any) -> str:
        server.on(MODELS, reply({"data": [{**ENTRY, **more}]}))
        return engine(server).info.digest

    assert digest(created=1, permission=[{"id": "x"}]) == digest(created=2)
    assert digest(root="Qwen/Qwen2.5-3B") != digest(root="Qwen/Qwen2.5-7B")


def test_an_adapter_is_asked_for_under_its_own_name(server: Stub) -> None:
    request = Request("q", Mode.LETTER, Prompt("x", adapter="bio"), AB)
    list(engine(server).answer([request]))
    assert server.bodies(TEXT)[0]["model"] == "bio"


def test_cloze_is_never_asked(server: Stub) -> None:
    [answer] = engine(server).answer([Request("q", Mode.CLOZE, Prompt("x"), AB)])
    assert answer.status is Status.ERROR
    assert server.bodies(TEXT) == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("http://h:8000/v1#m", ("http://h:8000/v1", "m")),
        ("http://h:8000/v1/#org/m:1", ("http://h:8000/v1", "org/m:1")),
        ("https://h/api/v3", ("https://h/api/v3", None)),
        ("http://h:8000", ("http://h:8000/v1", None)),
        ("http://h:8000/#m", ("http://h:8000/v1", "m")),
        ("http://h:8000/v1#", ("http://h:8000/v1", None)),
        ("http://h/v1?api-version=1#m", ("http://h/v1?api-version=1", "m")),
        ("http://h/v1/?api-version=1", ("http://h/v1?api-version=1", None)),
        ("http://h?api-version=1#m", ("http://h/v1?api-version=1", "m")),
        ("http://me:p@h#m", ("http://me:p@h/v1", "m")),
    ],
)
def test_names(text: str, found: tuple[str, str | None]) -> None:
    assert parse_openai_name(text) == found


@pytest.mark.parametrize("text", ["h:8000/v1", "ftp://h/v1", "http://", "http://h:port/v1#m"])
def test_what_is_no_name(text: str) -> None:
    with pytest.raises(Misuse, match="no URL of a server"):
        parse_openai_name(text)
