"""The Ollama engine against a server that replays what Ollama says, good and bad."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from domainlift.errors import BenchError, EngineDown, Misuse
from engines.base import Message, Mode, Prompt, Request, Status
from engines.servers.http import Retries
from engines.servers.ollama import SAMPLING, OllamaEngine, was_cut
from engines.servers.ollama_hub_names import hub_name
from engines.servers.ollama_model import is_older, parse_host

if TYPE_CHECKING:
    from tests.helpers.stub_server import Reply, Stub

AT_ONCE = Retries(3, 0, 0)
ABCD = (" A", " B", " C", " D")
SHOWN: dict[str, Any] = {
    "template": "{{ .System }}{{ .Prompt }}",
    "details": {"quantization_level": "Q4_K_M"},
    "model_info": {"general.architecture": "qwen2", "qwen2.context_length": 32768},
    "capabilities": ["completion"],
}


def letter(name: str = "q", text: str = "Question?\nAnswer:") -> Request:
    return Request(name, Mode.LETTER, Prompt(text), ABCD)


def chat(text: str) -> Request:
    return Request("q", Mode.LETTER, Prompt(messages=(Message("user", text),)), ("A", "B"))


def open_reply(max_tokens: int = 64, stop: tuple[str, ...] = ("\n\n",)) -> Request:
    return Request("q", Mode.GENERATE, Prompt("Why?"), stop=stop, max_tokens=max_tokens)


def said(token: str = " B", **more: Any) -> dict[str, Any]:
    top = [
        {"token": token, "logprob": math.log(0.6)},
        {"token": " A", "logprob": math.log(0.2)},
        {"token": "A", "logprob": math.log(0.1)},
    ]
    entry = {"token": token, "logprob": math.log(0.6), "top_logprobs": top}
    counts = {"prompt_eval_count": 40, "eval_count": 1}
    return {"response": token, "done": True, "logprobs": [entry], **counts, **more}


def lines(*parts: str, done: bool = True) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = [{"response": part, "done": False} for part in parts]
    return [*found, {"response": "", "done": True, "eval_count": 3}] if done else found


@pytest.fixture
def ollama(stub: Stub, reply: type[Reply]) -> Stub:
    """An Ollama that has `qwen2.5:3b`."""
    stub.on("/api/version", reply({"version": "0.12.11"}))
    stub.on("/api/show", reply(SHOWN))
    models = [{"name": "other:1b", "digest": "no"}, {"name": "qwen2.5:3b", "digest": "abc123"}]
    stub.on("/api/tags", reply({"models": models}))
    stub.on("/api/generate", reply(said()))
    return stub


def engine(stub: Stub, **more: Any) -> OllamaEngine:
    wanted = {"model": "qwen2.5:3b", "host": stub.url, "retries": AT_ONCE, **more}
    return stub.keep(OllamaEngine(**wanted))


def test_letters_in_one_call(ollama: Stub) -> None:
    [answer] = engine(ollama).answer([letter()])
    assert answer.status is Status.OK
    assert math.exp(answer.logprobs[0]) == pytest.approx(0.3)
    assert math.exp(answer.logprobs[1]) == pytest.approx(0.6)
    assert math.exp(answer.logprobs[2]) == pytest.approx(0.1)
    assert (answer.greedy, answer.n_bounded) == ((False, True, False, False), 2)
    assert answer.mass == pytest.approx(0.9)
    assert (answer.prompt_tokens, answer.output_tokens) == (40, 1)
    assert answer.seconds > 0
    assert len(ollama.bodies("/api/generate")) == 1


def test_loading_the_model_is_not_the_answers_time(ollama: Stub, reply: type[Reply]) -> None:
    spent = {"total_duration": 5_000_000_000, "load_duration": 4_000_000_000}
    ollama.on("/api/generate", reply(said(**spent)))
    [answer] = engine(ollama).answer([letter()])
    assert answer.seconds == pytest.approx(1.0)


def test_every_request_says_everything_and_the_context_never_changes(
    ollama: Stub, reply: type[Reply]
) -> None:
    ollama.on("/api/chat", reply(said()))
    generated = reply(lines("x"))
    ollama.on("/api/generate", reply(said()), reply(said()), generated)
    requests = [letter(), letter(text="long " * 900), open_reply()]
    list(engine(ollama, seed=7).answer([*requests, chat("Hello")]))
    bodies = ollama.bodies("/api/generate") + ollama.bodies("/api/chat")
    assert len(bodies) == 4
    for body in bodies:
        options = body["options"]
        assert set(SAMPLING) | {"seed", "num_ctx", "num_predict"} <= set(options)
        assert (options["temperature"], options["repeat_penalty"]) == (0, 1.0)
        assert (options["seed"], options["num_ctx"]) == (7, 4096)
        assert (body["truncate"], body["shift"]) == (False, False)
        assert "think" not in body
    assert [body["options"]["num_predict"] for body in bodies] == [1, 1, 64, 1]
    assert [body.get("raw") for body in bodies] == [True, True, True, None]
    assert bodies[0]["top_logprobs"] == 20
    assert bodies[0]["logprobs"] is True


def test_requests_go_one_at_a_time_in_the_given_order(ollama: Stub) -> None:
    prompts = [f"prompt {i}" for i in range(30)]
    found = engine(ollama).answer([letter(text, text) for text in prompts])
    assert [each.id for each in found] == prompts
    assert [body["prompt"] for body in ollama.bodies("/api/generate")] == prompts
    assert ollama.most_at_once == 1


def test_a_chat_goes_to_the_chat_endpoint(ollama: Stub, reply: type[Reply]) -> None:
    answered = {**said("A"), "message": {"role": "assistant", "content": "A"}}
    del answered["response"]
    ollama.on("/api/chat", reply(answered))
    [answer] = engine(ollama).answer([chat("Which?")])
    assert answer.n_bounded == 1
    assert ollama.bodies("/api/chat")[0]["messages"] == [{"role": "user", "content": "Which?"}]


def test_a_thinking_model_is_told_not_to(ollama: Stub, reply: type[Reply]) -> None:
    ollama.on("/api/show", reply({**SHOWN, "capabilities": ["completion", "thinking"]}))
    list(engine(ollama).answer([letter()]))
    assert ollama.bodies("/api/generate")[0]["think"] is False


def test_info_says_what_repeats_the_run(ollama: Stub) -> None:
    info = engine(ollama).info
    assert (info.engine, info.model, info.digest) == ("ollama", "qwen2.5:3b", "abc123")
    assert info.modes == {Mode.LETTER, Mode.GENERATE}
    assert (info.context, info.options["num_ctx"]) == (4096, 4096)
    assert info.options["quantization"] == "Q4_K_M"
    assert len(str(info.options["template"])) == 16
    assert dict(info.versions) == {"ollama": "0.12.11"}
    assert (info.has_chat_template, info.notes) == (True, ())


def test_a_template_that_writes_the_date_is_said(ollama: Stub, reply: type[Reply]) -> None:
    template = "Today Date: {{ currentDate }}\n{{ .System }}{{ .Prompt }}"
    ollama.on("/api/show", reply({**SHOWN, "template": template}))
    (note,) = engine(ollama).info.notes
    assert "date of the day" in note


def test_a_bare_template_is_none(ollama: Stub, reply: type[Reply]) -> None:
    ollama.on("/api/show", reply({**SHOWN, "template": "{{ .Prompt }}"}))
    assert not engine(ollama).info.has_chat_template


@pytest.mark.parametrize(
    ("wished", "trained", "chosen", "noted"),
    [
        (None, 32768, 4096, False),
        (None, 2048, 2048, False),
        (8192, 32768, 8192, False),
        (99999, 32768, 32768, True),
    ],
)
def test_the_context(
    ollama: Stub,
    reply: type[Reply],
    wished: int | None,
    trained: int,
    chosen: int,
    noted: bool,
) -> None:
    ollama.on("/api/show", reply({**SHOWN, "model_info": {"qwen2.context_length": trained}}))
    info = engine(ollama, num_ctx=wished).info
    assert (info.context, bool(info.notes)) == (chosen, noted)


def test_generation_is_streamed_and_ends_at_the_stop(ollama: Stub, reply: type[Reply]) -> None:
    ollama.on("/api/generate", reply(lines("Be", "cause.\n", "\nNext")))
    [answer] = engine(ollama).answer([open_reply()])
    assert (answer.text, answer.logprobs, answer.output_tokens) == ("Because.", (), 3)
    body = ollama.bodies("/api/generate")[0]
    assert (body["stream"], body["options"]["stop"]) == (True, ["\n\n"])


def test_calls_of_tools_are_told_in_the_text(ollama: Stub, reply: type[Reply]) -> None:
    call = {"function": {"name": "f", "arguments": {"a": 1}}}
    said = [{"message": {"content": "", "tool_calls": [call]}}, {"done": True}]
    ollama.on("/api/chat", reply("".join(json.dumps(each) + "\n" for each in said)))
    prompt = Prompt(messages=(Message("user", "?"),), tools=({"type": "function"},))
    asked = Request("q", Mode.GENERATE, prompt, max_tokens=9)
    [answer] = engine(ollama).answer([asked])
    assert answer.text == f"\n<tool_call>\n{json.dumps(call)}\n</tool_call>"
    assert ollama.bodies("/api/chat")[0]["tools"] == [{"type": "function"}]


@pytest.mark.parametrize(
    ("end", "cut_off"),
    [
        ({"done_reason": "length"}, True),
        ({"done_reason": "stop"}, False),
        ({"eval_count": 64}, True),
        ({"eval_count": 63}, False),
    ],
)
def test_a_thought_is_kept_apart_and_a_cut_told(
    ollama: Stub, reply: type[Reply], end: dict[str, Any], cut_off: bool
) -> None:
    thought = [{"response": "", "thinking": part} for part in ("Is", " ", "it B?")]
    ollama.on("/api/generate", reply([*thought, *lines("C", done=False), {"done": True, **end}]))
    [answer] = engine(ollama).answer([open_reply()])
    assert (answer.text, answer.thought, answer.cut_off) == ("C", "Is it B?", cut_off)
    turns = [{"message": {"content": "", "thinking": "B?"}}, {"message": {"content": "C"}}]
    ollama.on("/api/chat", reply([*turns, {"message": "odd", "done": True, **end}]))
    talk = Request("q", Mode.GENERATE, Prompt(messages=(Message("user", "?"),)), max_tokens=64)
    [answer] = engine(ollama).answer([talk])
    assert (answer.text, answer.thought, answer.cut_off) == ("C", "B?", cut_off)


@pytest.mark.parametrize(
    "first",
    [
        {"body": [*lines("Be", done=False), {"error": "an error was encountered"}]},
        {"body": lines("Be", done=False)},
        {"body": lines("Be"), "drop": True},
        {"body": '{"response": "Be", "done": false}\n{"resp'},
    ],
    ids=["error line", "no end", "dropped", "torn line"],
)
def test_a_broken_stream_is_asked_again(
    ollama: Stub, reply: type[Reply], first: dict[str, Any]
) -> None:
    ollama.on("/api/generate", reply(**first), reply(lines("Because", " so")))
    [answer] = engine(ollama).answer([open_reply()])
    assert (answer.status, answer.text) == (Status.OK, "Because so")
    assert len(ollama.bodies("/api/generate")) == 2


@pytest.mark.parametrize("status", [500, 503])
def test_a_busy_server_is_asked_again(ollama: Stub, reply: type[Reply], status: int) -> None:
    ollama.on("/api/generate", reply({"error": "server busy"}, status), reply(said()))
    [answer] = engine(ollama).answer([letter()])
    assert answer.status is Status.OK


def test_a_failure_is_an_answer_that_says_what_happened(ollama: Stub, reply: type[Reply]) -> None:
    ollama.on("/api/generate", reply({"error": "odd request"}, 400), reply(said()))
    one, two = engine(ollama).answer([letter("1"), letter("2")])
    assert (one.status, one.error) == (Status.ERROR, "the server answered 400: odd request")
    assert two.status is Status.OK


@pytest.mark.parametrize(
    "bad",
    [
        {"body": "<html>oops</html>"},
        {"body": said(logprobs=[{"top_logprobs": "x"}])},
        {"body": said(logprobs=[{"top_logprobs": [{"token": "A", "logprob": 3}]}])},
        {"body": "{}", "drop": True},
        {"body": {}, "status": 500},
    ],
    ids=["html", "shape", "positive", "dropped", "500"],
)
def test_the_breaker_trips_after_five(ollama: Stub, reply: type[Reply], bad: Any) -> None:
    ollama.on("/api/generate", reply(said()), reply(**bad))
    found = engine(ollama, retries=Retries(1, 0, 0)).answer([letter(str(i)) for i in range(99)])
    assert next(found).id == "0"
    with pytest.raises(EngineDown, match="5 times in a row") as caught:
        list(found)
    assert "resumes the run" in str(caught.value.hint)
    assert len(ollama.bodies("/api/generate")) <= 7


def test_a_server_that_goes_down_in_the_run(ollama: Stub) -> None:
    found = engine(ollama).answer([letter(str(i)) for i in range(99)])
    next(found)
    ollama.close()
    with pytest.raises(EngineDown, match="in a row"):
        list(found)


def test_a_slow_server(ollama: Stub, reply: type[Reply]) -> None:
    ollama.on("/api/generate", reply(said(), delay=30))
    [answer] = engine(ollama, timeout=2).answer([letter()])
    assert (answer.status, answer.error) == (Status.ERROR, "no reply within 2 s")


@pytest.mark.parametrize("request_", [letter(), open_reply()], ids=["letter", "generate"])
def test_a_prompt_too_long_is_truncated(
    ollama: Stub, reply: type[Reply], request_: Request
) -> None:
    text = '{"error":{"message":"request (9000 tokens) exceeds the available context size"}}'
    ollama.on("/api/generate", reply({"error": text}, 400))
    found = list(engine(ollama).answer([replace(request_, id=str(i)) for i in range(8)]))
    assert {each.status for each in found} == {Status.TRUNCATED}
    assert len(ollama.bodies("/api/generate")) == 8


@pytest.mark.parametrize(
    ("seen", "characters", "cut"),
    [
        (2050, 18_000, True),
        (2050, 9_000, False),
        (1500, 18_000, False),
        (4096, 9_000, True),
        (0, 9_000, False),
    ],
)
def test_a_silent_cut_is_seen(seen: int, characters: int, cut: bool) -> None:
    assert was_cut(seen, characters, 4096) is cut


def test_a_server_that_cuts_silently(ollama: Stub, reply: type[Reply]) -> None:
    ollama.on("/api/generate", reply(said(prompt_eval_count=2050)))
    [answer] = engine(ollama).answer([letter(text="word " * 5000)])
    assert (answer.status, answer.logprobs) == (Status.TRUNCATED, ())
    assert "`2050`" in str(answer.error)


def test_an_old_server_is_read_by_text(ollama: Stub, reply: type[Reply]) -> None:
    ollama.on("/api/version", reply({"version": "0.9.6"}))
    ollama.on("/api/generate", reply(lines(" B", ".")))
    old = engine(ollama)
    assert old.info.options["logprobs"] is False
    [note] = old.info.notes
    assert "0.9.6 is older than 0.12.11" in note
    [answer] = old.answer([letter()])
    assert (answer.text, answer.logprobs) == (" B.", ())
    assert ollama.bodies("/api/generate")[0]["options"]["num_predict"] == 8


def test_a_server_without_logprobs_is_read_by_text_from_then_on(
    ollama: Stub, reply: type[Reply]
) -> None:
    without = {key: value for key, value in said().items() if key != "logprobs"}
    ollama.on("/api/generate", reply(without), reply(lines(" B")))
    able = engine(ollama)
    found = list(able.answer([letter("1"), letter("2")]))
    assert [each.text for each in found] == [" B", " B"]
    assert [body["stream"] for body in ollama.bodies("/api/generate")] == [False, True, True]
    assert len(able.info.notes) == 1


def test_an_end_token_first_is_an_empty_reply_and_no_sign_of_an_old_server(
    ollama: Stub, reply: type[Reply]
) -> None:
    ollama.on("/api/generate", reply({"response": "", "done": True}), reply(said()))
    able = engine(ollama)
    one, two = able.answer([letter("1"), letter("2")])
    assert (one.status, one.text, one.logprobs) == (Status.OK, "", ())
    assert len(two.logprobs) == 4
    assert able.info.notes == ()


def test_down_at_the_start_gives_both_ways_on(stub: Stub) -> None:
    stub.close()
    with pytest.raises(EngineDown) as caught:
        engine(stub)
    assert caught.value.what == f"Ollama does not answer at `{stub.url}`"
    hint = str(caught.value.hint)
    assert "`ollama serve` and `ollama pull qwen2.5:3b`" in hint
    assert "`bench run --model Qwen/Qwen2.5-3B-Instruct`" in hint


def test_an_unknown_model_gives_the_pull(ollama: Stub, reply: type[Reply]) -> None:
    ollama.on("/api/show", reply({"error": "model 'qwen2.5:3b' not found"}, 404))
    with pytest.raises(BenchError, match="has no model `qwen2") as caught:
        engine(ollama)
    assert caught.value.hint == "`ollama pull qwen2.5:3b`"
    with pytest.raises(BenchError, match=r"has no model `qwen2\.5:latest`") as caught:
        engine(ollama, model="qwen2.5")
    assert caught.value.hint == "`ollama pull qwen2.5`, or one that it has: `qwen2.5:3b`"


@pytest.mark.parametrize("path", ["/api/version", "/api/show"])
def test_a_server_that_wants_a_user_says_how(ollama: Stub, reply: type[Reply], path: str) -> None:
    ollama.on(path, reply({"error": "who are you"}, 401))
    with pytest.raises(EngineDown, match="refuses us: the server answered 401") as caught:
        engine(ollama)
    assert "OLLAMA_HOST may name who asks" in str(caught.value.hint)


def test_a_model_that_goes_away_stops_the_run(ollama: Stub, reply: type[Reply]) -> None:
    ollama.on("/api/generate", reply({"error": "model 'qwen2.5:3b' not found"}, 404))
    with pytest.raises(EngineDown, match="went away"):
        list(engine(ollama).answer([letter()]))


def test_another_server_is_no_ollama(stub: Stub, reply: type[Reply]) -> None:
    stub.on("/api/version", reply("<html>hello</html>"))
    with pytest.raises(BenchError, match="is not an Ollama server"):
        engine(stub)


@pytest.mark.parametrize(
    "request_",
    [
        Request("q", Mode.CLOZE, Prompt("x"), (" a", " b")),
        Request("q", Mode.LETTER, Prompt("x", adapter="bio"), ABCD),
    ],
    ids=["cloze", "adapter"],
)
def test_what_it_cannot_do_is_never_asked(ollama: Stub, request_: Request) -> None:
    [answer] = engine(ollama).answer([request_])
    assert answer.status is Status.ERROR
    assert ollama.bodies("/api/generate") == []


def test_an_adapter_is_a_model_of_its_own(ollama: Stub, reply: type[Reply], tmp_path: Path) -> None:
    known = {"name": "biology-v0001", "digest": "ad"}
    ollama.on("/api/tags", reply({"models": [known]}))
    made = engine(ollama)
    made.add_adapter("biology-v0001", tmp_path)
    asked = [letter("a"), replace(letter("b"), prompt=Prompt("x", adapter="biology-v0001"))]
    assert [answer.status for answer in made.answer(asked)] == [Status.OK, Status.OK]
    models = [body["model"] for body in ollama.bodies("/api/generate")]
    assert models == ["qwen2.5:3b", "biology-v0001"]
    assert made.info.one_adapter_at_a_time


def test_an_adapter_without_a_model_says_how_to_make_one(
    ollama: Stub, reply: type[Reply], tmp_path: Path
) -> None:
    made = engine(ollama)
    ollama.on("/api/show", reply({"error": "not found"}, 404))
    with pytest.raises(BenchError, match="no model `biology-v0001`") as caught:
        made.add_adapter("biology-v0001", tmp_path / "biology" / "v0001")
    assert "bench export biology/v0001 --to ollama" in str(caught.value.hint)


def test_the_digest_is_found_under_latest_and_never_empty(ollama: Stub, reply: type[Reply]) -> None:
    ollama.on("/api/tags", reply({"models": [{"name": "mine:latest", "digest": "d1"}]}))
    assert engine(ollama, model="mine").info.digest == "d1"
    assert len(engine(ollama, model="other").info.digest) == 16


def test_the_host_of_the_environment(ollama: Stub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", ollama.url.replace("http://127.0.0.1", "0.0.0.0"))
    assert engine(ollama, host=None).info.digest == "abc123"


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("0.0.0.0:8080", "http://127.0.0.1:8080"),
        (":8080", "http://127.0.0.1:8080"),
        ("box", "http://box:11434"),
        ("box:1234", "http://box:1234"),
        (" 'box:1234' ", "http://box:1234"),
        ("http://box", "http://box:80"),
        ("https://box/ollama/", "https://box:443/ollama"),
        ("http://box:11434/", "http://box:11434"),
        ("http://me:p%40ss@box", "http://me:p%40ss@box:80"),
        ("http://me:p%40ss@box:9/a", "http://me:p%40ss@box:9/a"),
        ("me:hush@box:9", "http://me:hush@box:9"),
        ("http://me:hush@[::1]:9", "http://me:hush@[::1]:9"),
        ("https://box/a?key=b", "https://box:443/a?key=b"),
        ("::1", "http://[::1]:11434"),
        ("[::]:9", "http://[::1]:9"),
    ],
)
def test_hosts(text: str, url: str) -> None:
    assert parse_host(text) == url


@pytest.mark.parametrize("text", ["box:port", "ftp://box", "box:99999"])
def test_what_is_no_host(text: str) -> None:
    with pytest.raises(Misuse, match="is no host"):
        parse_host(text)
    for url in ("http://me:hush@box:port", "me:hush@box:port"):
        with pytest.raises(Misuse) as caught:
            parse_host(url)
        assert "hush" not in caught.value.what


@pytest.mark.parametrize(
    ("version", "older"),
    [
        ("0.12.10", True),
        ("0.9.6", True),
        ("0.12.11", False),
        ("0.12.11-rc1", False),
        ("0.33.0-rc2", False),
        ("1.0.0", False),
        ("0.0.0", False),
        ("", False),
        ("main", False),
    ],
)
def test_versions(version: str, older: bool) -> None:
    assert is_older(version, (0, 12, 11)) is older


@pytest.mark.parametrize(
    ("tag", "name"),
    [
        ("qwen2.5:3b", "Qwen/Qwen2.5-3B-Instruct"),
        ("qwen2.5:0.5b", "Qwen/Qwen2.5-0.5B-Instruct"),
        ("qwen2.5:3b-instruct-q4_K_M", "Qwen/Qwen2.5-3B-Instruct"),
        ("qwen2.5", "Qwen/Qwen2.5-7B-Instruct"),
        ("qwen3:0.6b", "Qwen/Qwen3-0.6B"),
        ("llama3.2:3b", "meta-llama/Llama-3.2-3B-Instruct"),
        ("llama3.2:latest", "meta-llama/Llama-3.2-3B-Instruct"),
        ("gemma2:2b", "google/gemma-2-2b-it"),
        ("smollm2:135m", "HuggingFaceTB/SmolLM2-135M-Instruct"),
        ("phi3:mini", "microsoft/Phi-3-mini-4k-instruct"),
        ("qwen2.5:3b-base", None),
        ("qwen2.5:9b", None),
        ("mine:7b", None),
    ],
)
def test_hub_names(tag: str, name: str | None) -> None:
    assert hub_name(tag) == name
