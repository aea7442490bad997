"""Page of questions: the answer by the plan beside that of the base model, with its sources."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import BaseRoute, Route

from domainlift.errors import BenchError, Misuse, NoSuch
from serving.assistant import AUTO, BASE_MODEL
from serving.http_app import ReplyStream
from serving.monitoring_api import mark_reply
from serving.openai_replies import DONE, event
from serving.request_fields import RequestRefused
from serving.ui.lazy_assistant import Events, LazyAssistant, reply_events
from serving.ui.page_guard import read_form
from serving.ui.pages import Pages

#: Who is asked, and the heading above its answer.
_WHO = {AUTO: "By the plan", BASE_MODEL: "Base model alone"}


def ask_routes(
    pages: Pages, assistant: LazyAssistant, stopping: Callable[[], bool]
) -> list[BaseRoute]:
    """The page, and the stream that its script asks for."""
    view = _AskView(pages, assistant, stopping)
    return [
        pages.get("/", view.page),
        Route("/ask/stream", view.stream, methods=["POST"]),
        pages.post("/feedback", view.feedback),
    ]


@dataclass(frozen=True)
class _AskView:
    pages: Pages
    assistant: LazyAssistant
    stopping: Callable[[], bool]

    def page(self, _: Mapping[str, str], __: Mapping[str, str]) -> Response:
        plan, missing = "", None
        try:
            plan = self.assistant.plan().name
        except BenchError as error:
            missing = error
        return self.pages.show("ask", here="/", who=_WHO, plan=plan, missing=missing)

    def feedback(self, _: Mapping[str, str], fields: Mapping[str, str]) -> Response:
        """Mark an answer; what is told stands beside its buttons."""
        marked = {key: fields.get(key, "") for key in ("id", "verdict", "correction")}
        try:
            mark = mark_reply(self.pages.workspace, marked)
        except RequestRefused as error:
            raise Misuse(error.message) from error
        return PlainTextResponse(f"marked as {mark.verdict}")

    async def stream(self, request: Request) -> Response:
        """Events of one answer: `origin` (HTML), `text`, then `tokens` with `id`, or `error`."""
        try:
            fields = await read_form(request, self.pages.token)
            question, model = fields.get("question", "").strip(), fields.get("model", AUTO)
            if model not in _WHO:
                raise NoSuch("model", model, _WHO)
            if not question:
                raise Misuse("no question was asked", "write one into the field")
        except BenchError as error:
            return self.pages.show("error", 400, error=error)
        events = reply_events(self.assistant, question, model)
        return ReplyStream(self._told(events), events, {})

    async def _told(self, events: Events) -> AsyncIterator[str]:
        while not self.stopping() and (each := await to_thread.run_sync(next, events, None)):
            if (prepared := each.get("prepared")) is not None:
                told = {"told": prepared.as_json(), "model": prepared.model, "plan": each["plan"]}
                each = {"origin": self.pages.part("origin", **told)}
            yield event(each)
        yield DONE
