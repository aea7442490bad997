"""Score a model behind an OpenAI-compatible endpoint: vLLM, llama-server, TGI, LM Studio."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from types import SimpleNamespace
from urllib.parse import urlsplit, urlunsplit

from domainlift.errors import BenchError, EngineDown, Misuse
from domainlift.files import text_sha256
from domainlift.text.display import one_line
from engines.base import Answer, EngineInfo, Mode, Prompt, Request
from engines.chat_template import ChatTemplate
from engines.registry import EngineOptions
from engines.servers.http import PATIENT, Retries, ServedEngine, Server, parse_address
from engines.servers.letter_logprobs import first_alternatives, with_letters
from engines.servers.reply_stream import (
    openai_chunks,
    reply_pieces,
    sampling_options,
    told_by_server,
)
from engines.servers.responses import (
    ContextOverflow,
    Failure,
    Json,
    check_ending,
    get_path,
    spoken,
    spoken_calls,
    token_count,
    with_options,
    with_text,
)
from engines.streaming import ReplyDelta, Sampling

TOPS = (20, 5)
STOPS = 4
TEXT_TOKENS = 8

SAMPLING: dict[str, int | float] = {
    "temperature": 0,
    "top_p": 1,
    "presence_penalty": 0,
    "frequency_penalty": 0,
}
# What these servers would else take from the model's own generation settings. Only where the
# server says who it is: strict ones refuse names that they do not know.
OWN_SAMPLING: dict[str, dict[str, int | float]] = {
    "vllm": {"repetition_penalty": 1.0},
    "llamacpp": {"repeat_penalty": 1.0},
}
# `root` stays: behind an alias it alone tells which model this is.
_STABLE = ("id", "root", "parent", "owned_by", "max_model_len", "meta")
_DATED = "the server's chat template writes the date: a run does not go on on another day"
_NO_KEY = "set BENCH_API_KEY to a key that the server accepts"
_NO_USER = "correct the user and the password in the URL; a key is not sent beside them"


def open_endpoint(name: str, options: EngineOptions) -> OpenAIEngine:
    """Open the model of a name such as `http://host:port/v1#model`."""
    url, model = parse_openai_name(name)
    return OpenAIEngine(
        url, model, concurrency=options.concurrency, timeout=options.timeout, seed=options.seed
    )


class OpenAIEngine(ServedEngine):
    """An engine over one model of an OpenAI-compatible endpoint; `concurrency` at a time."""

    def __init__(
        self,
        url: str,
        model: str | None = None,
        concurrency: int = 8,
        timeout: float = 300.0,
        retries: Retries = PATIENT,
        api_key: str | None = None,
        seed: int = 0,
    ) -> None:
        key = _key() if api_key is None else api_key
        headers = {"Authorization": f"Bearer {key}"} if key else None
        self._server = Server(url, timeout, retries, headers)
        self._workers = concurrency
        try:
            listed = _listed(self._server)
            self._model = _only(listed, self._server.url) if model is None else model
        except BaseException:
            self._server.close()
            raise
        self._known = sorted(listed)
        self._notes: list[str] = []
        self._top: int | None = TOPS[0]
        entry = _entry(listed, self._model)
        if listed and entry.get("id") not in (self._model, f"{self._model}:latest"):
            names = ", ".join(f"`{name}`" for name in self._known[:5])
            self._notes.append(f"the server lists {names}, and not `{self._model}`.")
        self._options = SAMPLING | {"seed": seed} | OWN_SAMPLING.get(str(entry.get("owned_by")), {})
        # OpenAI's API has no log-likelihood of a text; `bench serve` gives it.
        self._chooses = entry.get("owned_by") == "domainlift"
        told = told_of_model(self._server, entry)
        if "date" in told:
            self._notes.append(_DATED)
        self._info = self._describe(entry, told)

    def stream(self, prompt: Prompt, sampling: Sampling) -> Generator[ReplyDelta, None, None]:
        """Yield a reply as the server sends it; closing the generator closes the connection."""
        asked: Json = {key: value for key, value in self._options.items() if key != "seed"}
        asked |= {"stream": True, "stream_options": {"include_usage": True}}
        asked |= sampling_options(sampling)
        if sampling.max_tokens is not None:
            asked["max_tokens"] = sampling.max_tokens
        if sampling.stop:
            asked["stop"] = list(sampling.stop[:STOPS])
        if sampling.top_logprobs is not None:
            asked |= _asked_logprobs(prompt, sampling.top_logprobs)
        path, body = self._body(prompt, asked)
        with told_by_server(lambda failure: self._final(failure, body["model"])):
            yield from reply_pieces(openai_chunks(self._server.lines(path, body)), sampling)

    def chat(self, messages: Sequence[Json], tools: Sequence[Json], asked: Json) -> Json:
        """The choice by which a conversation goes on: `message` and `finish_reason`.

        Messages and tools are sent as they are, `asked` are options of the API. Raises Failure
        where this request fails, EngineDown where any would.
        """
        body: Json = {"model": self._model, "messages": list(messages), "stream": False}
        body |= ({"tools": list(tools)} if tools else {}) | self._options | asked
        choice: Json = self._reply("/chat/completions", body)["choices"][0]
        return choice

    def _ask(self, request: Request) -> Answer:
        if self._chooses and request.options:
            asked = {"options": list(request.options), "mode": request.mode.value}
            reply = self._post(request, 1, {"domainlift": asked})
            return with_options(_started(request, reply), reply)
        if request.mode is Mode.CLOZE:
            raise Misuse(
                "an OpenAI-compatible server gives no log-likelihood of a text",
                "score by letter or generate",
            )
        if request.mode is Mode.GENERATE:
            return self._generate(request, request.max_tokens)
        if self._top is not None:
            answer = self._letters(request)
            if answer is not None:
                return answer
            self._fall_back()
        return self._generate(request, TEXT_TOKENS)

    def _letters(self, request: Request) -> Answer | None:
        """Read the first token's alternatives; None where the server cannot give any."""
        reply = self._first_token(request)
        if reply is None:
            return None
        first = first_alternatives(reply)
        if not first:
            # Without text the first token was an end token: no sign of what the server can do.
            return None if any(_spoken(reply)) else replace(_started(request, reply), text="")
        return with_letters(_started(request, reply), first, request.options)

    def _first_token(self, request: Request) -> Json | None:
        """Ask for as many alternatives as the server allows, and remember how many these are."""
        for top in TOPS:
            if self._top is None or top > self._top:
                continue
            try:
                return self._post(request, 1, _asked_logprobs(request.prompt, top))
            except Failure as failure:
                if isinstance(failure, ContextOverflow) or not _is_capped(failure):
                    raise
            self._top = TOPS[-1]
        return None

    def _generate(self, request: Request, max_tokens: int) -> Answer:
        # More than four are refused by some; the rest is cut off here.
        more: Json = {"stop": list(request.stop[:STOPS])} if request.stop else {}
        reply = self._post(request, max_tokens, more)
        reason = get_path(reply, "choices", 0, "finish_reason")
        return with_text(
            _started(request, reply), *_spoken(reply), request.stop, reason, max_tokens
        )

    def _post(self, request: Request, max_tokens: int, more: Json) -> Json:
        asked = {"max_tokens": max_tokens, "stream": False, **self._options, **more}
        return self._reply(*self._body(request.prompt, asked))

    def _reply(self, path: str, body: Json) -> Json:
        try:
            reply = self._server.post(path, body)
        except Failure as failure:
            raise self._final(failure, body["model"]) from failure
        if get_path(reply, "choices", 0) is None:
            told = get_path(reply, "message")
            why = f": {one_line(told, 120)}" if isinstance(told, str) else ""
            raise Failure(f"the reply holds no `choices`{why}", 200)
        check_ending(get_path(reply, "choices", 0, "finish_reason"))
        self._hear(body["model"], get_path(reply, "model"))
        return reply

    def _hear(self, asked: str, answered: object) -> None:
        """Note that another model answers than the one that was asked: some take any name."""
        if isinstance(answered, str) and answered and not answered.startswith(asked):
            note = f"`{asked}` is answered by `{one_line(answered, 80)}`, as the server says."
            if note not in self._notes:
                self._notes.append(note)

    def _body(self, prompt: Prompt, asked: Json) -> tuple[str, Json]:
        # vLLM serves an adapter under a model name of its own.
        body = {"model": self._model if prompt.adapter is None else prompt.adapter, **asked}
        if prompt.messages:
            tools = {"tools": list(prompt.tools)} if prompt.tools else {}
            turns = [message.as_json() for message in prompt.messages]
            return "/chat/completions", body | {"messages": turns, **tools}
        return "/completions", body | {"prompt": prompt.text}

    def _final(self, failure: Failure, model: str) -> BenchError:
        """Tell what no further request can survive from what concerns one request."""
        if failure.status in (401, 403) and not failure.refused:
            return _refused(self._server, failure)
        if failure.status == 404:
            names = ", ".join(f"`{name}`" for name in self._known) or "none that it lists"
            return EngineDown(
                f"`{self._server.url}` does not serve `{model}`: {failure.what}",
                f"name a model that it has as `URL#name`: {names}",
            )
        return failure

    def _fall_back(self) -> None:
        self._top = None
        note = f"`{self._model}` gives no log-probabilities: letters are read from generated text."
        if note not in self._notes:
            self._notes.append(note)

    def _describe(self, entry: Json, told: Json) -> EngineInfo:
        context = get_path(entry, "max_model_len") or get_path(entry, "meta", "n_ctx")
        return EngineInfo(
            engine="openai",
            model=self._model,
            digest=_digest(entry),
            context=context if isinstance(context, int) else None,
            modes=frozenset(Mode) - (frozenset() if self._chooses else {Mode.CLOZE}),
            # No server tells; one without a template refuses the first chat in a clear sentence.
            has_chat_template=True,
            options={**self._options, "server": self._server.url, **told},
            versions={"server": str(entry.get("owned_by") or "unknown")},
        )


def parse_openai_name(text: str) -> tuple[str, str | None]:
    """Split `http://host:port/v1#name`; without a path, `/v1` is meant."""
    url, _, name = text.strip().partition("#")
    parse_address(url)
    parts = urlsplit(url)
    path = parts.path.rstrip("/")
    return urlunsplit(parts._replace(path=path if path else "/v1")), name or None


def _asked_logprobs(prompt: Prompt, top: int) -> Json:
    if prompt.messages:
        return {"logprobs": True, "top_logprobs": top}
    return {"logprobs": top}


def _is_capped(failure: Failure) -> bool:
    speaks = re.search("logprobs|top_n_tokens", failure.what) is not None
    return failure.status in (400, 422) and speaks


def _started(request: Request, reply: Json) -> Answer:
    return Answer(
        request.id,
        prompt_tokens=token_count(reply, "usage", "prompt_tokens"),
        output_tokens=token_count(reply, "usage", "completion_tokens"),
    )


def _spoken(reply: Json) -> tuple[str, str | None]:
    choice = get_path(reply, "choices", 0)
    text = get_path(choice, "text")
    said, thought = spoken(get_path(choice, "message") or choice)
    said += spoken_calls(get_path(choice, "message"))
    return (text if isinstance(text, str) and text else said), thought


def _listed(server: Server) -> dict[str, Json]:
    """Fetch the models that a server lists; none where it has no list."""
    try:
        found = get_path(server.get("/models", tries=1), "data")
    except Failure as failure:
        if failure.status in (401, 403):
            raise _refused(server, failure) from failure
        if failure.status in (404, 405):
            return {}
        raise EngineDown(
            f"no model server answers at `{server.url}`: {failure.what}",
            "start the server, or correct the URL; it mostly ends in `/v1`",
        ) from failure
    entries = found if isinstance(found, list) else []
    return {str(get_path(entry, "id")): entry for entry in entries if get_path(entry, "id")}


def _refused(server: Server, failure: Failure) -> EngineDown:
    hint = _NO_USER if server.address.user else _NO_KEY
    return EngineDown(f"`{server.url}` refuses us: {failure.what}", hint)


def _only(listed: Mapping[str, Json], url: str) -> str:
    if len(listed) == 1:
        return next(iter(listed))
    names = ", ".join(f"`{name}`" for name in sorted(listed))
    what = f"has several models: {names}" if listed else "lists no model"
    raise Misuse(f"`{url}` {what}", f"name one: `{url}#NAME`")


def _entry(listed: Mapping[str, Json], model: str) -> Json:
    """What is listed of a model; where there is only another one, that will answer for it."""
    named = listed.get(model) or listed.get(f"{model}:latest")
    other = next(iter(listed.values())) if len(listed) == 1 else {"id": model}
    return other if named is None else named


def _digest(entry: Json) -> str:
    """Hash what the server says of the model.

    The API tells no digest of the weights. Left out is what changes with each start or request
    of the same server (`created`, the ids in `permission`): a run could not be resumed otherwise.
    """
    kept = {key: entry[key] for key in _STABLE if entry.get(key) is not None}
    return text_sha256(json.dumps(kept, sort_keys=True))


def _key() -> str | None:
    named = (os.environ.get(name) for name in ("BENCH_API_KEY", "OPENAI_API_KEY"))
    return next((key for key in named if key), None)


def told_of_model(server: Server, entry: Json) -> dict[str, str]:
    """What tells a model from another one of the same name, by option; {} where nothing does.

    `entry` is the model in the server's list; who owns it there says which server this is.
    """
    root = get_path(entry, "root")
    found = {"root": str(root)} if root else {}
    ask = _BY_OWNER.get(str(entry.get("owned_by")))
    if ask is None:
        return found
    try:
        return found | ask(server, str(entry.get("id")))
    except Failure:
        # An older version, or a proxy that passes on nothing but the API.
        return found


def _llama_server(server: Server, _: str) -> dict[str, str]:
    props = server.get(server.address.root + "/props", tries=1)
    template = get_path(props, "chat_template")
    return {
        **_texts(props, "model_path", "model_alias"),
        **(_template(template) if isinstance(template, str) else {}),
    }


def _template(source: str) -> dict[str, str]:
    """What tells a template from another one, and its replies of one day from those of the next."""
    served = SimpleNamespace(chat_template=source, special_tokens_map={})
    dated = ChatTemplate(served).traits.dated
    return {"template": text_sha256(source)[:16], **({"date": f"{date.today()}"} if dated else {})}


def _ollama(server: Server, model: str) -> dict[str, str]:
    listed = get_path(server.get(server.address.root + "/api/tags", tries=1), "models")
    for each in listed if isinstance(listed, list) else []:
        if get_path(each, "name") == (model if ":" in model else f"{model}:latest"):
            return _texts(each, "digest")
    return {}


def _sglang(server: Server, _: str) -> dict[str, str]:
    told = server.get(server.address.root + "/get_model_info", tries=1)
    return _texts(told, "model_path", "tokenizer_path")


_BY_OWNER: dict[str, Callable[[Server, str], dict[str, str]]] = {
    "llamacpp": _llama_server,
    "library": _ollama,
    "sglang": _sglang,
}


def _texts(told: Json, *keys: str) -> dict[str, str]:
    return {key: told[key] for key in keys if isinstance(told.get(key), str) and told[key]}
