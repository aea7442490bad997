"""Page of questions: the answer by the plan beside that of the base model, with its sources."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass
from typing import Any

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Route

from domainlift.errors import BenchError, Misuse, NoSuch
from serving.assistant import AUTO, BASE_MODEL
from serving.http_app import ReplyStream
from serving.openai_replies import DONE, event
from serving.ui.lazy_assistant import Events, LazyAssistant, reply_events
from serving.ui.page_guard import read_form
from serving.ui.pages import Pages

#: Who is asked, and the heading above its answer.
_WHO = {AUTO: "By the plan", BASE_MODEL: "Base model alone"}
_MOST_CHARACTERS = 20_000


def ask_routes(
    pages: Pages, assistant: LazyAssistant, stopping: Callable[[], bool]
) -> list[BaseRoute]:
    """The page, its form, and the stream that the script of the page asks for."""
    view = _AskView(pages, assistant, stopping)
    return [
        pages.get("/", view.page),
        pages.post("/", view.answered),
        Route("/ask/stream", view.stream, methods=["POST"]),
    ]


@dataclass(frozen=True)
class _AskView:
    pages: Pages
    assistant: LazyAssistant
    stopping: Callable[[], bool]

    def page(self, _: Mapping[str, str], fields: Mapping[str, str]) -> Response:
        return self._show(fields.get("question", ""), {})

    def answered(self, _: Mapping[str, str], fields: Mapping[str, str]) -> Response:
        """The page with both answers, for a browser without scripts."""
        question = _question(fields)
        answers = {}
        for model in _WHO:
            answer = answers[model] = {"text": "", "origin": "", "error": "", "hint": ""}
            for each in reply_events(self.assistant, question, model):
                answer["text"] += each.get("text", "")
                answer |= {"origin": self._origin(each)} if "prepared" in each else {}
                answer |= {key: each[key] for key in ("error", "hint") if key in each}
        return self._show(question, answers)

    async def stream(self, request: Request) -> Response:
        """Events of one answer: `origin` (HTML), `text`, then `tokens` or `error` and `hint`."""
        try:
            fields = await read_form(request, self.pages.token)
            question, model = _question(fields), fields.get("model", AUTO)
            if model not in _WHO:
                raise NoSuch("model", model, _WHO)
        except BenchError as error:
            return self.pages.show("error", 400, error=error)
        events = reply_events(self.assistant, question, model)
        return ReplyStream(self._told(events), events, {})

    async def _told(self, events: Events) -> AsyncIterator[str]:
        while not self.stopping() and (each := await to_thread.run_sync(next, events, None)):
            if "prepared" in each:
                yield event({"origin": self._origin(each)})
            else:
                yield event(each)
        yield DONE

    def _origin(self, each: Mapping[str, Any]) -> str:
        prepared = each["prepared"]
        told = prepared.as_json()
        return self.pages.part("origin", told=told, model=prepared.model, plan=each["plan"])

    def _show(self, question: str, answers: Mapping[str, Mapping[str, str]]) -> Response:
        plan, missing = "", None
        try:
            plan = self.assistant.plan().name
        except BenchError as error:
            missing = error
        values: dict[str, Any] = {"who": _WHO, "plan": plan, "missing": missing}
        return self.pages.show("ask", here="/", question=question, answers=answers, **values)


def _question(fields: Mapping[str, str]) -> str:
    question = fields.get("question", "").strip()
    if not question:
        raise Misuse("no question was asked", "write one into the field")
    if len(question) > _MOST_CHARACTERS:
        raise Misuse(f"the question has more than {_MOST_CHARACTERS:,} characters")
    return question
