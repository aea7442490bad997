"""The OpenAI-compatible server of an assistant, as an ASGI application."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Callable, Generator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from anyio import CapacityLimiter, to_thread
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response, StreamingResponse
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from domainlift.errors import BenchError, EngineDown, Misuse, NoSuch
from domainlift.fields import InvalidRow
from engines.streaming import PromptTooLong, ReplyDelta
from improve.feedback.reply_log import KEPT, ReplyLog
from reports.terminal import print_note
from serving.assistant import AUTO, BASE_MODEL, Assistant, PreparedReply
from serving.conversations import ConversationRecorder
from serving.http_guard import Access, Guard, refused_response
from serving.monitoring_api import mark_reply, stored_samples
from serving.openai_replies import DONE, ApiReply, event, sources_text
from serving.openai_requests import (
    ReplyRequest,
    read_body,
    read_chat_request,
    read_completion_request,
)
from serving.prometheus import CONTENT_TYPE, Measured, Metrics
from serving.request_fields import RequestRefused
from serving.served import served_reply

#: The most that a request may hold, and the most replies at a time: each waits in a thread.
MOST_BYTES, _THREADS = 8_000_000, 256
_LOOK_SECONDS = 1.0
#: Clients look for these words, and for "prompt is too long".
_PHRASE = "exceeds the context window"

Deltas = Generator[ReplyDelta, None, None]


@dataclass(frozen=True)
class ServerSettings:
    """Behaviour of the server that no request decides.

    A `strict` one refuses what the documents do not support; with `footer` every chat's text ends
    with its sources. `kept` replies can be marked for a while, 0 for none; with `record` chats
    become traces. `stopping` says that running replies are to end.
    """

    access: Access
    strict: bool = False
    footer: bool = False
    kept: int = KEPT
    record: bool = False
    stopping: Callable[[], bool] = lambda: False


def make_http_app(assistant: Assistant, settings: ServerSettings) -> ASGIApp:
    """Make the application."""
    api = _Api(assistant, settings)
    chat = partial(api.reply, read=read_chat_request)
    completion = partial(api.reply, read=read_completion_request)
    routes = [
        Route("/health", api.health),
        Route("/metrics", api.metrics),
        Route("/v1/models", api.models),
        Route("/v1/models/{name:path}", api.model),
        Route("/v1/chat/completions", chat, methods=["POST"]),
        Route("/v1/completions", completion, methods=["POST"]),
        Route("/v1/feedback", api.feedback, methods=["POST"]),
    ]
    handlers = {HTTPException: _http_error}
    app = Starlette(routes=routes, exception_handlers=handlers, lifespan=api.lifespan)
    endpoints = {route.path for route in routes}
    return Measured(Guard(app, settings.access), api.counted, endpoints)


class _Api:
    """The endpoints."""

    def __init__(self, assistant: Assistant, settings: ServerSettings) -> None:
        self._assistant, self._settings = assistant, settings
        self._threads = CapacityLimiter(_THREADS)
        self._replies = ReplyLog(assistant.workspace, settings.kept)
        self._recorder = ConversationRecorder(assistant.workspace) if settings.record else None
        self.counted = Metrics()

    @asynccontextmanager
    async def lifespan(self, _: Starlette) -> AsyncIterator[None]:
        """Look for promoted plans as long as the server runs."""
        following = asyncio.create_task(self._follow())
        try:
            yield
        finally:
            following.cancel()

    async def health(self, _: Request) -> Response:
        """Tell that the server runs, and by which plan."""
        return JSONResponse({"status": "ok", "plan": self._assistant.plan.name})

    async def metrics(self, _: Request) -> Response:
        """Tell what was counted, in Prometheus' text format."""
        stored = partial(stored_samples, self._assistant.workspace, *self._assistant.version)
        samples = await self._in_thread(lambda: list(stored()))
        return Response(self.counted.text(samples), media_type=CONTENT_TYPE)

    async def feedback(self, request: Request) -> Response:
        """Mark a reply as right or wrong."""
        try:
            body = read_body(await _body(request))
            mark = await self._in_thread(mark_reply, self._assistant.workspace, body)
        except Exception as error:  # nothing that is asked may end the server
            return refused_response(_refusal(error))
        told = {"object": "feedback", "id": mark.id, "verdict": mark.verdict, "state": mark.state}
        return JSONResponse(told)

    async def models(self, _: Request) -> Response:
        """List what `model` may name."""
        return JSONResponse({"object": "list", "data": self._entries()})

    async def model(self, request: Request) -> Response:
        """Describe one of them."""
        name = request.path_params["name"]
        entries = {entry["id"]: entry for entry in self._entries()}
        if name not in entries:
            return refused_response(_refusal(NoSuch("model", name, entries)))
        return JSONResponse(entries[name])

    async def reply(
        self, request: Request, read: Callable[[dict[str, Any]], ReplyRequest]
    ) -> Response:
        """Answer a question, whole or in a stream; errors have OpenAI's shape."""
        deltas: Deltas | None = None
        try:
            asked = read(read_body(await _body(request)))
            prepared = await self._in_thread(self._assistant.prepare, asked.asked, asked.model)
            if asked.tools:
                prompt = replace(prepared.prompt, tools=asked.tools)
                prepared = replace(prepared, prompt=prompt)
            if asked.asked.options:
                chosen = await self._in_thread(self._assistant.choose, prepared, asked.asked)
                writer = ApiReply(asked, prepared)
                self.counted.count_reply(prepared, ())
                return JSONResponse(writer.choice(chosen), headers=_headers(prepared))
            deltas = self._assistant.stream(prepared, asked.sampling, strict=self._settings.strict)
            # Most errors come before the first piece, when the status can still tell.
            first = await self._in_thread(next, deltas, None)
            footer = self._settings.footer if asked.footer is None else asked.footer
            sources = sources_text(prepared) if footer and asked.chat else ""
            writer = ApiReply(asked, prepared, sources)
            if not asked.stream:
                return await self._whole(request, writer, deltas, first)
            events = self._events(writer, deltas, first)
            response = ReplyStream(events, deltas, headers=_headers(prepared))
            deltas = None
            return response
        except ClientDisconnect:
            return Response(status_code=499)
        except Exception as error:  # nothing that is asked may end the server
            return refused_response(_refusal(error))
        finally:
            if deltas is not None:
                deltas.close()

    async def _whole(
        self,
        request: Request,
        writer: ApiReply,
        deltas: Deltas,
        first: ReplyDelta | None,
    ) -> Response:
        said = []
        async for delta in self._pieces(deltas, first):
            said.append(delta)
            if await request.is_disconnected():
                raise ClientDisconnect
        await self._in_thread(self._keep, writer, said)
        return JSONResponse(writer.whole(said), headers=_headers(writer.prepared))

    async def _events(
        self, writer: ApiReply, deltas: Deltas, first: ReplyDelta | None
    ) -> AsyncIterator[str]:
        try:
            for chunk in writer.first_chunks():
                yield event(chunk)
            said = []
            async for delta in self._pieces(deltas, first):
                said.append(delta)
                if delta.finish:  # who has the end may mark it at once
                    await self._in_thread(self._keep, writer, said)
                for chunk in writer.chunks(delta):
                    yield event(chunk)
            yield DONE
        except Exception as error:  # told in the stream: the status was sent long ago
            yield event(_refusal(error).as_json())

    def _keep(self, writer: ApiReply, said: Sequence[ReplyDelta]) -> None:
        """Count a whole reply, and keep it; where that fails, the client has it all the same."""
        self.counted.count_reply(writer.prepared, said)
        question, text = writer.request.asked.question.text, "".join(each.text for each in said)
        try:
            self._replies.add(served_reply(writer.id, question, text, writer.prepared))
            if self._recorder is not None and writer.request.chat:
                self._recorder.add(writer, said)
        except (BenchError, InvalidRow) as error:
            print_note(str(error))

    async def _pieces(self, deltas: Deltas, first: ReplyDelta | None) -> AsyncIterator[ReplyDelta]:
        delta = first
        while delta is not None:
            yield delta
            if self._settings.stopping():
                raise EngineDown("the server is stopping")
            delta = await self._in_thread(next, deltas, None)

    async def _follow(self) -> None:
        while True:
            await asyncio.sleep(_LOOK_SECONDS)
            try:
                if await self._in_thread(self._assistant.take_over):
                    print_note(f"the plan `{self._assistant.plan.name}` is taken over")
            except Exception as error:  # whatever it is, the plan before answers well
                print_note(f"the plan before stays: {error}")

    def _entries(self) -> list[dict[str, Any]]:
        info = self._assistant.engine.info
        weights = f"{info.model} {info.digest}"
        roots = {AUTO: f"{weights} {self._assistant.plan.name}", BASE_MODEL: weights}
        roots |= {name: f"{weights} {name}" for name in self._assistant.adapters}
        return [
            {
                "id": name,
                "object": "model",
                "created": 0,
                "owned_by": "domainlift",
                "root": root,
                "parent": None if name in (AUTO, BASE_MODEL) else BASE_MODEL,
                "max_model_len": info.context,
            }
            for name, root in roots.items()
        ]

    async def _in_thread(self, function: Callable[..., Any], *arguments: Any) -> Any:
        return await to_thread.run_sync(function, *arguments, limiter=self._threads)


class ReplyStream(StreamingResponse):
    """A stream of events that ends the decoding when it ends, however it ends."""

    media_type = "text/event-stream"

    def __init__(
        self, events: AsyncIterator[str], deltas: Generator[Any, None, None], headers: Any
    ) -> None:
        super().__init__(events, headers={**headers, "Cache-Control": "no-cache"})
        self._deltas = deltas

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            self._deltas.close()


async def _body(request: Request) -> bytes:
    body = bytearray()
    async for part in request.stream():
        body += part
        if len(body) > MOST_BYTES:
            raise RequestRefused(f"the body has more than {MOST_BYTES:,} bytes", status=413)
    return bytes(body)


def _headers(prepared: PreparedReply) -> dict[str, str]:
    """Route, adapter and sources; JSON keeps foreign characters out of headers."""
    treatment = prepared.treatment
    return {
        "X-Domainlift-Route": json.dumps(treatment.route or None),
        "X-Domainlift-Adapter": json.dumps(treatment.adapter),
        "X-Domainlift-Sources": json.dumps([p.place for p in treatment.passages]),
    }


def _refusal(error: Exception) -> RequestRefused:
    """What a client is told of an error."""
    match error:
        case RequestRefused():
            return error
        case PromptTooLong():
            which = "" if _PHRASE in error.what else f", which {_PHRASE}"
            what = f"the prompt is too long: {error.what}{which}"
            return RequestRefused(what, None, code="context_length_exceeded")
        case NoSuch():
            told = f"{error.what}: {error.hint}"
            return RequestRefused(told, "model", status=404, code="model_not_found")
        case Misuse():
            return RequestRefused(error.what)
        case BenchError():
            return RequestRefused(error.what, status=503 if isinstance(error, EngineDown) else 500)
        case _:
            print_note(f"unexpected {type(error).__name__}: {error}")
            return RequestRefused(f"unexpected {type(error).__name__}", status=500)


def _http_error(_: Request, error: Exception) -> Response:
    status = error.status_code if isinstance(error, HTTPException) else 500
    detail = error.detail if isinstance(error, HTTPException) else "it failed"
    return refused_response(RequestRefused(detail, status=status))
