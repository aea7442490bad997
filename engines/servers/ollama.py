"""Score a model that Ollama serves, over its native API."""

from __future__ import annotations

import os
import shlex
from collections.abc import Callable, Generator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

from domainlift.errors import BenchError, EngineDown, Misuse
from engines.base import Answer, Engine, EngineInfo, Mode, Prompt, Request, Status
from engines.chat_template import turn_of
from engines.gguf.engine import GgufEngine, file_digest
from engines.gguf.files import ollama_blob
from engines.gguf.libllama import is_installed
from engines.registry import EngineOptions
from engines.servers.http import PATIENT, Retries, ServedEngine, Server
from engines.servers.letter_logprobs import with_letters
from engines.servers.ollama_model import OllamaModel, is_older, look_up, parse_host
from engines.servers.reply_stream import (
    ollama_chunks,
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
    parse,
    spoken,
    spoken_calls,
    token_count,
    with_text,
)
from engines.streaming import ReplyDelta, Sampling

DEFAULT_CONTEXT = 4096
#: Seconds to wait for a server that only says whether it is there.
_PATIENCE = 5.0
TOP = 20
TEXT_TOKENS = 8
LOGPROBS_SINCE = (0, 12, 11)

# Every option that bears on the answer: the server's defaults have changed between versions,
# and a model file may bring its own.
SAMPLING: dict[str, int | float] = {
    "temperature": 0,
    "top_k": 40,
    "top_p": 1.0,
    "min_p": 0.0,
    "typical_p": 1.0,
    "repeat_penalty": 1.0,
    "presence_penalty": 0.0,
    "frequency_penalty": 0.0,
}


def open_tag(name: str, options: EngineOptions) -> Engine:
    """Open the model of an Ollama tag, such as `qwen2.5:3b`, at OLLAMA_HOST.

    Where no server answers, the tag's file in Ollama's own store is read in this process.
    """
    try:
        return OllamaEngine(
            name, num_ctx=options.context, seed=options.seed, timeout=options.timeout
        )
    except EngineDown:
        blob = ollama_blob(name) if is_installed() else None
        if blob is None:
            raise
        note = f"Ollama does not run: `{name}` is read from its store, in this process."
        return GgufEngine(blob, shown=name, options=options, notes=[note])


def stored_file(name: str) -> Path | None:
    """The file of a tag in Ollama's own store where no server answers, else None."""
    found = _found(name) if is_installed() else None
    return found if isinstance(found, Path) else None


def tag_digest(name: str) -> str | None:
    """The digest of what a tag is now, here or at OLLAMA_HOST; None where neither has it."""
    found = _found(name)
    if isinstance(found, Path):
        return file_digest(found)
    return found.digest if found is not None else None


def _found(name: str) -> OllamaModel | Path | None:
    """A tag as OLLAMA_HOST has it, or its file in Ollama's own store where no server answers."""
    with closing(Server(parse_host(os.environ.get("OLLAMA_HOST", "")), _PATIENCE)) as server:
        try:
            return look_up(server, name)
        except EngineDown:
            return ollama_blob(name) if is_installed() else None
        except BenchError:
            return None


class OllamaEngine(ServedEngine):
    """An engine over one Ollama model; asks one request at a time, in the given order.

    In parallel the server would batch requests together, which changes greedy output, and would
    spread neighbours over slots, which loses the shared prefix.
    """

    _workers = 1

    def __init__(
        self,
        model: str,
        host: str | None = None,
        num_ctx: int | None = None,
        seed: int = 0,
        timeout: float = 600.0,
        keep_alive: str | int = "10m",
        retries: Retries = PATIENT,
    ) -> None:
        url = parse_host(os.environ.get("OLLAMA_HOST", "") if host is None else host)
        self._server = Server(url, timeout, retries)
        try:
            self._served = look_up(self._server, model)
        except BaseException:
            self._server.close()
            raise
        # Models with an adapter in them, by the name under which requests ask for it.
        self._adapted: dict[str, str] = {}
        self._keep_alive = keep_alive
        self._notes: list[str] = []
        self._context = self._choose_context(num_ctx)
        self._options = SAMPLING | {"seed": seed, "num_ctx": self._context}
        self._logprobs = not is_older(self._served.version, LOGPROBS_SINCE)
        if not self._logprobs:
            self._fall_back(f"Ollama {self._served.version} is older than 0.12.11")
        if self._served.dated:
            self._notes.append(
                "the chat template writes the date of the day: an answer may be another tomorrow"
            )
        self._info = self._describe()

    def add_adapter(self, name: str, folder: Path) -> None:
        """Know a model of this server as the one with this adapter in it; it is called `name`.

        Ollama has one model per adapter. Raises BenchError where it has none of that name, with
        the commands that make it from the adapter's `folder`.
        """
        try:
            self._adapted[name] = look_up(self._server, name).model
        except EngineDown:
            raise
        except BenchError as error:
            adapter = f"{folder.parent.name}/{folder.name}"
            what = f"Ollama at `{self._server.url}` has no model `{name}` for adapter `{adapter}`"
            hint = f"`bench export {adapter} --to ollama`, then the command that it prints"
            raise BenchError(what, hint) from error

    def stream(self, prompt: Prompt, sampling: Sampling) -> Generator[ReplyDelta, None, None]:
        """Yield a reply as Ollama sends it; closing the generator closes the connection."""
        options: Json = {key: value for key, value in self._options.items() if key != "seed"}
        most = -1 if sampling.max_tokens is None else sampling.max_tokens
        options |= {**sampling_options(sampling), "num_predict": most}
        if sampling.stop:
            options["stop"] = list(sampling.stop)
        path, body = self._body_of(prompt, options)
        if sampling.top_logprobs is not None:
            body |= {"logprobs": True, "top_logprobs": sampling.top_logprobs}
        with told_by_server(self._final):
            lines = self._server.lines(path, body | {"stream": True})
            yield from reply_pieces(ollama_chunks(lines, _spoken), sampling)

    def _ask(self, request: Request) -> Answer:
        self._check(request)
        if request.mode is Mode.GENERATE:
            return self._generate(request, request.max_tokens)
        if self._logprobs:
            answer = self._letters(request)
            if answer is not None:
                return answer
            self._fall_back(f"`{self._served.model}` came without log-probabilities")
        return self._generate(request, TEXT_TOKENS)

    def _letters(self, request: Request) -> Answer | None:
        """Read the first token's alternatives; None where the server cannot give any."""
        path, body = self._body(request, 1)
        body |= {"stream": False, "logprobs": True, "top_logprobs": TOP}
        reply = self._post(path, body, parse)
        answer = self._started(request, reply)
        if answer.status is not Status.OK:
            return answer
        first = get_path(reply, "logprobs", 0, "top_logprobs")
        if not first:
            # An end token has no text, and servers leave out its log-probabilities: no answer
            # to this question, but no sign of what the server can do.
            return None if any(_spoken(reply)) else replace(answer, text="")
        return with_letters(answer, first, request.options)

    def _generate(self, request: Request, max_tokens: int) -> Answer:
        path, body = self._body(request, max_tokens)
        if request.stop:
            body["options"]["stop"] = list(request.stop)
        reply = self._post(path, body | {"stream": True}, join_lines)
        answer = self._started(request, reply)
        if answer.status is not Status.OK:
            return answer
        reason = get_path(reply, "done_reason")
        return with_text(answer, *_spoken(reply), request.stop, reason, max_tokens)

    def _post(self, path: str, body: Json, read: Callable[[str], Json]) -> Json:
        try:
            return self._server.post(path, body, read)
        except Failure as failure:
            raise self._final(failure) from failure

    def _final(self, failure: Failure) -> BenchError:
        """Tell what no further request can survive from what concerns one request."""
        if failure.status != 404:
            return failure
        pull = f"`ollama pull {shlex.quote(self._served.model)}`"
        return EngineDown(
            f"the model `{self._served.model}` went away: {failure.what}",
            f"{pull}, then give the same command again",
        )

    def _body(self, request: Request, max_tokens: int) -> tuple[str, Json]:
        return self._body_of(request.prompt, self._options | {"num_predict": max_tokens})

    def _body_of(self, prompt: Prompt, options: Json) -> tuple[str, Json]:
        body: Json = {
            "model": self._model(prompt.adapter),
            "options": options,
            "keep_alive": self._keep_alive,
            # An error instead of an answer to half of the prompt.
            "truncate": False,
            "shift": False,
        }
        if self._served.thinks:
            body["think"] = False
        if prompt.messages:
            turns = [turn_of(message) for message in prompt.messages]
            tools = {"tools": list(prompt.tools)} if prompt.tools else {}
            return "/api/chat", body | {"messages": turns, **tools}
        return "/api/generate", body | {"prompt": prompt.text, "raw": True}

    def _check(self, request: Request) -> None:
        if request.mode is Mode.CLOZE:
            raise Misuse("Ollama gives no log-likelihood of a text", "score by letter or generate")

    def _model(self, adapter: str | None) -> str:
        if adapter not in {None, *self._adapted}:
            raise Misuse(f"the adapter `{adapter}` is not loaded")
        return self._served.model if adapter is None else self._adapted[adapter]

    def _started(self, request: Request, reply: Json) -> Answer:
        """Fill in what every reply tells, and whether the prompt was cut."""
        check_ending(get_path(reply, "done_reason"))
        seen = token_count(reply, "prompt_eval_count")
        answer = Answer(
            request.id,
            prompt_tokens=seen,
            output_tokens=token_count(reply, "eval_count"),
            seconds=max(
                0, token_count(reply, "total_duration") - token_count(reply, "load_duration")
            )
            / 1e9,
        )
        if not was_cut(seen, _length(request), self._context):
            return answer
        error = f"the server cut the prompt to `{seen}` tokens of a context of `{self._context}`"
        return replace(answer, status=Status.TRUNCATED, error=error)

    def _fall_back(self, why: str) -> None:
        self._logprobs = False
        self._notes.append(f"{why}: letters are read from generated text.")

    def _choose_context(self, wished: int | None) -> int:
        """Choose the context once: any change of it makes the server load the model again."""
        context = DEFAULT_CONTEXT if wished is None else wished
        most = self._served.context
        if most is None or context <= most:
            return context
        if wished is not None:
            self._notes.append(f"The context is {most} tokens, the most that the model has.")
        return most

    def _describe(self) -> EngineInfo:
        served = self._served
        return EngineInfo(
            engine="ollama",
            model=served.model,
            digest=served.digest,
            context=self._context,
            modes=frozenset({Mode.LETTER, Mode.GENERATE}),
            has_chat_template=served.has_chat_template,
            options={
                **self._options,
                "logprobs": self._logprobs,
                "think": False if served.thinks else None,
                "quantization": served.quantization,
                "template": served.template,
                "server": self._server.url,
            },
            versions={"ollama": served.version},
            one_adapter_at_a_time=True,
        )


def join_lines(text: str) -> Json:
    """Make one reply of a stream of JSON lines; a stream without an end is a dropped one."""
    whole: Json = {}
    said: list[tuple[str, str | None]] = []
    for line in filter(None, map(str.strip, text.split("\n"))):
        try:
            whole = parse(line)
        except Failure as failure:
            # Garbage after a good beginning is a line that was torn off.
            failure.retry |= bool(said) and not isinstance(failure, ContextOverflow)
            raise
        spoke, thought = _spoken(whole)
        said.append((spoke + spoken_calls(get_path(whole, "message")), thought))
    if whole.get("done") is not True:
        raise Failure("the server dropped the connection", retry=True)
    response, thinking = ("".join(filter(None, parts)) for parts in zip(*said, strict=True))
    return {**whole, "response": response, "thinking": thinking, "message": None}


def was_cut(seen: int, characters: int, context: int) -> bool:
    """Tell whether a server that knows no `truncate` has silently cut the prompt.

    It then keeps about half of the context and answers 200. A prompt may be of that length by
    chance, but not with more than six characters to a token.
    """
    at_half = abs(seen - (context // 2 + 2)) <= 8
    return seen >= context or (at_half and characters > 6 * seen)


def _spoken(reply: Json) -> tuple[str, str | None]:
    """The text and the thought of a reply, or of one line of it."""
    message = get_path(reply, "message")
    chat = message if isinstance(message, dict) else {}
    return spoken({**reply, "content": reply.get("response"), **chat})


def _length(request: Request) -> int:
    prompt = request.prompt
    return sum(len(each.content) for each in prompt.messages) or len(prompt.text)
