"""Pages: templates that escape everything, and routes whose errors are pages, too."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, RedirectResponse, Response
from starlette.routing import Route

from domainlift.errors import BenchError, Misuse, NoSuch
from domainlift.hints import copyable
from domainlift.stats.formatting import percent, points, points_interval
from domainlift.stats.intervals import Interval
from ensemble.plan import DomainTreatment
from reports.sanitize import block, line
from reports.terminal import print_note
from serving.ui.page_guard import FORM_FIELD, form_token, read_form

#: A page made of the names in its path, and of the fields of its query or form.
View = Callable[[Mapping[str, str], Mapping[str, str]], Response]
_Name = TypeVar("_Name")
_Read = TypeVar("_Read")

_FOLDER = Path(__file__).parent
#: Style of the reports, then that of the pages, and the one script.
_STATIC = {
    "report.css": Path(str(files("reports"))) / "templates" / "compare.css",
    "ui.css": _FOLDER / "static" / "ui.css",
    "ui.js": _FOLDER / "static" / "ui.js",
}
MENU = {
    "/": "Ask",
    "/runs": "Runs",
    "/improve": "Improve",
    "/health": "Health",
    "/knowledge": "Knowledge bases",
    "/adapters": "Adapters and plans",
    "/exams": "Exams",
}


@dataclass(frozen=True)
class Pages:
    """Makes pages and their routes."""

    token: str
    workspace: Path

    @cached_property
    def _environment(self) -> Environment:
        made = Environment(
            loader=FileSystemLoader(_FOLDER / "templates"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        made.filters.update(line=line, block=block, date=_date)
        made.filters.update(evidence=_evidence, told=_told, percent=percent, copyable=copyable)
        made.globals.update(menu=MENU, form_field=FORM_FIELD, form_token=form_token(self.token))
        made.globals["workspace"] = str(self.workspace)
        return made

    def part(self, template: str, **values: Any) -> str:
        """A part of a page as HTML; every value is escaped."""
        return self._environment.get_template(f"{template}.html.j2").render(**values)

    def show(self, template: str, status: int = 200, **values: Any) -> HTMLResponse:
        """A whole page."""
        return HTMLResponse(self.part(template, **values), status)

    def get(self, path: str, view: View) -> Route:
        """The route of a page that only shows something."""

        async def answer(request: Request) -> Response:
            fields = dict(request.query_params)
            return await self._guarded(run_in_threadpool(view, request.path_params, fields))

        return Route(path, answer, methods=["GET"])

    def post(self, path: str, view: View) -> Route:
        """The route of a form, which must have the token of forms."""

        async def act(request: Request) -> Response:
            fields = await read_form(request, self.token)
            return await run_in_threadpool(view, request.path_params, fields)

        async def answer(request: Request) -> Response:
            return await self._guarded(act(request))

        return Route(path, answer, methods=["POST"])

    async def _guarded(self, answer: Awaitable[Response]) -> Response:
        try:
            return await answer
        except BenchError as error:
            kinds = ((NoSuch, 404), (Misuse, 400))
            status = next((code for kind, code in kinds if isinstance(error, kind)), 500)
            return self.show("error", status, error=error)
        except Exception as error:  # nothing that is asked may end the server
            what = f"unexpected {type(error).__name__}: {error}"
            print_note(what)
            return self.show("error", 500, error=BenchError(what))


def readable(
    names: Iterable[_Name], read: Callable[[_Name], _Read]
) -> tuple[list[_Read], list[str]]:
    """What can be read, and what is wrong with the rest: a broken file hides no other."""
    found, notes = [], []
    for name in names:
        try:
            found.append(read(name))
        except BenchError as error:
            notes.append(error.what)
    return found, notes


def back_to(path: str) -> Response:
    """After a form: the page that shows what it did."""
    return RedirectResponse(path, 303)


def static_file(names: Mapping[str, str], _: Mapping[str, str]) -> Response:
    """A file of ours; NoSuch for any other."""
    if names["name"] not in _STATIC:
        raise NoSuch("file", names["name"], _STATIC)
    return FileResponse(_STATIC[names["name"]])


def _date(stamp: str) -> str:
    """A stamp of ISO 8601 to its minute."""
    return line(stamp[:16].replace("T", " "), 16)


def _told(value: object) -> str:
    """A value of a card in words; four digits of a number are enough to look at."""
    match value:
        case Mapping():
            return ", ".join(f"{key} {_told(each)}" for key, each in value.items())
        case list() | tuple():
            return f"[{', '.join(map(_told, value))}]"
        case float():
            return f"{value:.4g}"
    return "–" if value is None else str(value)


def _evidence(entry: DomainTreatment) -> str:
    """The gain of a treatment in points, with its interval and n; what is stored where it fails."""
    told = entry.evidence
    gain, low, high = (told.get(key) for key in ("gain", "low", "high"))
    if not (isinstance(gain, float) and isinstance(low, float) and isinstance(high, float)):
        return _told(told) or "–"
    between = points_interval(Interval(low, high))
    return f"{points(gain)} points ({between}), n {told.get('n', '?')}"
