"""Replies of servers as they come: events of OpenAI's API and lines of Ollama's, piece by piece."""

from __future__ import annotations

import json
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace

from domainlift.errors import BenchError, EngineDown, Misuse
from engines.reply_text import StopText
from engines.servers.letter_logprobs import LOWEST
from engines.servers.responses import (
    ContextOverflow,
    Failure,
    Json,
    check_ending,
    get_path,
    limit_ended,
    parse,
    spoken,
    token_count,
)
from engines.streaming import PromptTooLong, ReplyDelta, Sampling, TokenLogprob


def reply_pieces(
    chunks: Generator[ReplyDelta, None, None], sampling: Sampling
) -> Generator[ReplyDelta, None, None]:
    """Pass on what a server sends, its end last; Failure where it hangs up before.

    Servers tell the reason of the end before the numbers of tokens, and not all of them obey all
    stop strings.
    """
    shown = StopText(sampling.stop)
    so_far = ReplyDelta()
    finish = None
    with closing(chunks):
        for chunk in chunks:
            text = shown.add(chunk.text)
            counted = so_far.output_tokens + bool(chunk.text or chunk.thought)
            so_far = replace(
                so_far,
                prompt_tokens=chunk.prompt_tokens or so_far.prompt_tokens,
                output_tokens=chunk.output_tokens or counted,
            )
            finish = chunk.finish or finish
            if text or chunk.thought or chunk.calls or chunk.tokens:
                yield replace(
                    so_far,
                    text=text,
                    thought=chunk.thought,
                    calls=chunk.calls,
                    tokens=chunk.tokens,
                )
            if shown.stopped:
                finish = "stop"
                break
    if finish is None:
        raise Failure("the server dropped the connection")
    yield replace(so_far, text=shown.add("", last=True), finish=finish)


@contextmanager
def told_by_server(final: Callable[[Failure], BenchError]) -> Iterator[None]:
    """Say in errors of streaming engines what a server refuses; `final` knows some of them."""
    try:
        yield
    except ContextOverflow as failure:
        raise PromptTooLong(failure.what) from failure
    except Failure as failure:
        error = final(failure)
        if error is failure:
            error = (Misuse if failure.refused else EngineDown)(failure.what, failure.hint)
        raise error from failure


def openai_chunks(lines: Generator[str, None, None]) -> Generator[ReplyDelta, None, None]:
    """Pieces of the server-sent events of `/chat/completions` or `/completions`."""
    with closing(lines):
        for line in lines:
            data = line.removeprefix("data:").strip()
            if data == "[DONE]":
                return
            if data.startswith("{"):  # else a comment, or another field of an event
                yield _openai_chunk(parse(data))


def _openai_chunk(found: Json) -> ReplyDelta:
    choice = get_path(found, "choices", 0)
    delta = get_path(choice, "delta") or get_path(choice, "message")
    text, thought = spoken(delta)
    return ReplyDelta(
        text or str(get_path(choice, "text") or ""),
        thought or "",
        tuple(get_path(delta, "tool_calls") or ()),
        _logprobs(get_path(choice, "logprobs")),
        _finish(get_path(choice, "finish_reason")),
        token_count(found, "usage", "prompt_tokens"),
        token_count(found, "usage", "completion_tokens"),
    )


def ollama_chunks(
    lines: Generator[str, None, None], spoken_in: Callable[[Json], tuple[str, str | None]]
) -> Generator[ReplyDelta, None, None]:
    """Pieces of the lines of `/api/chat` or `/api/generate`; `spoken_in` finds text and thought."""
    called = 0
    with closing(lines):
        for found in map(parse, filter(None, lines)):
            text, thought = spoken_in(found)
            calls = get_path(found, "message", "tool_calls") or ()
            reason = found.get("done_reason") or "stop" if found.get("done") is True else None
            yield ReplyDelta(
                text,
                thought or "",
                tuple(_ollama_call(call, called + n) for n, call in enumerate(calls)),
                _logprobs({"content": found.get("logprobs")}),
                _finish("tool_calls" if reason and (called or calls) else reason),
                token_count(found, "prompt_eval_count"),
                token_count(found, "eval_count"),
            )
            called += len(calls)


def _ollama_call(call: Json, index: int) -> Json:
    """Ollama says calls as a whole, their arguments as an object."""
    arguments = json.dumps(get_path(call, "function", "arguments") or {}, ensure_ascii=False)
    function = {"name": get_path(call, "function", "name"), "arguments": arguments}
    name = get_path(call, "id") or f"call_{index}"
    return {"index": index, "id": name, "type": "function", "function": function}


def _finish(reason: object) -> str | None:
    if reason is None:
        return None
    check_ending(reason)
    if reason in ("tool_calls", "function_call"):
        return "tool_calls"
    return "length" if limit_ended(reason, 0, 0) else "stop"


def _logprobs(found: object) -> tuple[TokenLogprob, ...]:
    """Tokens of the shape of chats, or of that of completions."""
    content = get_path(found, "content")
    if content is None:
        content = list(_of_completions(found))
    return tuple(_token(entry) for entry in content if isinstance(entry, dict))


def _of_completions(found: object) -> Iterator[Json]:
    values, tops = get_path(found, "token_logprobs"), get_path(found, "top_logprobs")
    for at, token in enumerate(get_path(found, "tokens") or ()):
        top = get_path(tops, at) or {}
        alternatives = [{"token": name, "logprob": value} for name, value in top.items()]
        value = get_path(values, at)
        yield {"token": token, "logprob": value, "top_logprobs": alternatives}


def _token(entry: Json) -> TokenLogprob:
    text, raw, value = str(entry.get("token", "")), entry.get("bytes"), entry.get("logprob")
    return TokenLogprob(
        text,
        bytes(raw) if isinstance(raw, list) else text.encode("utf-8", "replace"),
        max(LOWEST, float(value)) if isinstance(value, int | float) else LOWEST,
        tuple(_token(each) for each in entry.get("top_logprobs") or ()),
    )


def sampling_options(sampling: Sampling) -> Json:
    """Options of a request under the names that both APIs share."""
    seed = {} if sampling.seed is None else {"seed": sampling.seed}
    return {
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "presence_penalty": sampling.presence_penalty,
        "frequency_penalty": sampling.frequency_penalty,
        **seed,
    }
