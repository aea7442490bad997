"""The pages as an ASGI application for this machine."""

from __future__ import annotations

from collections.abc import Callable

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp

from domainlift.errors import BenchError
from serving.http_guard import Access, Guard
from serving.ui.ask_view import ask_routes
from serving.ui.exam_view import exam_routes
from serving.ui.health_view import health_routes
from serving.ui.improve_jobs import JobStore
from serving.ui.improve_view import improve_routes
from serving.ui.lazy_assistant import LazyAssistant
from serving.ui.page_guard import PageGuard
from serving.ui.pages import Pages, static_file
from serving.ui.stored_views import stored_routes


def make_ui_app(
    pages: Pages,
    assistant: LazyAssistant,
    jobs: JobStore,
    stopping: Callable[[], bool] = lambda: False,
) -> ASGIApp:
    """Make the application; pages of other sites, and who has no token, are refused.

    `stopping` says that running replies are to end.
    """

    def http_error(_: Request, error: Exception) -> Response:
        status = error.status_code if isinstance(error, HTTPException) else 500
        told = BenchError("there is no such page" if status == 404 else "it cannot be asked so")
        return pages.show("error", status, error=told)

    app = Starlette(
        routes=[
            *ask_routes(pages, assistant, stopping),
            *stored_routes(pages),
            *improve_routes(pages, jobs),
            *exam_routes(pages),
            *health_routes(pages),
            pages.get("/static/{name}", static_file),
        ],
        exception_handlers={HTTPException: http_error},
    )
    return Guard(PageGuard(app, pages.token), Access())
