"""Pages of `bench improve`: start it, see how far it is, stop it, and go on."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.responses import HTMLResponse, Response
from starlette.routing import BaseRoute

from domainlift.errors import Misuse
from serving.ui.improve_jobs import JobState, JobStore
from serving.ui.job_log import read_stages, waiting
from serving.ui.pages import Pages, back_to

#: Fields that hold a number: its kind, and the least that makes sense.
_NUMBERS: Mapping[str, tuple[type, float]] = {"limit": (int, 2), "budget-minutes": (float, 0.01)}
_HOME = "/improve"
_CLOSING = re.compile(r"^(verdict|report): (.+)$", re.MULTILINE)


def improve_routes(pages: Pages, jobs: JobStore) -> list[BaseRoute]:
    """The pages, their forms, and the part that a page of a running job asks for anew."""
    view = _ImproveViews(pages, jobs)
    return [
        pages.get(_HOME, view.home),
        pages.post(_HOME, view.start),
        pages.get(_HOME + "/{name}", view.job),
        pages.get(_HOME + "/{name}/progress", view.progress),
        pages.post(_HOME + "/{name}/stop", view.stop),
        pages.post(_HOME + "/{name}/again", view.again),
    ]


def improve_arguments(fields: Mapping[str, str], workspace: Path) -> list[str]:
    """The arguments of `bench` that a form asks for; Misuse where a field is wrong.

    A value stands in one word with its option, so that none is taken for an option.
    """
    given = {key: value.strip() for key, value in fields.items() if value.strip()}
    model, docs, suite = (given.get(key, "") for key in ("model", "docs", "suite"))
    if not model:
        raise Misuse("no model is named", "name one, for example `smollm2`")
    if bool(docs) == bool(suite):
        raise Misuse("give a folder of documents or a suite, one of both")
    if docs and not Path(docs).expanduser().is_dir():
        raise Misuse(f"there is no folder `{docs}` on this machine", "give its whole path")
    what = f"--docs={Path(docs).expanduser().absolute()}" if docs else f"--suite={suite}"
    words = ["improve", f"--model={model}", what, f"--workspace={workspace.absolute()}"]
    for key, (kind, least) in _NUMBERS.items():
        if key in given:
            words.append(f"--{key}={_number(key, given[key], kind, least)}")
    flags = (key for key in ("skip-train", "dry-run") if key in given)
    return [*words, *(f"--{key}" for key in flags)]


@dataclass(frozen=True)
class _ImproveViews:
    pages: Pages
    jobs: JobStore

    def home(self, _: Mapping[str, str], __: Mapping[str, str]) -> Response:
        jobs = self.jobs.jobs()
        running = next((each for each in jobs if each.state is JobState.RUNNING), None)
        return self.pages.show("improve", here=_HOME, jobs=jobs, running=running)

    def start(self, _: Mapping[str, str], fields: Mapping[str, str]) -> Response:
        job = self.jobs.start(improve_arguments(fields, self.pages.workspace))
        return back_to(f"{_HOME}/{job.id}")

    def job(self, names: Mapping[str, str], _: Mapping[str, str]) -> Response:
        return self.pages.show("job", here=_HOME, **self._values(names["name"]))

    def progress(self, names: Mapping[str, str], _: Mapping[str, str]) -> Response:
        """The part of the page that changes; `data-live` says whether it still does."""
        return HTMLResponse(self.pages.part("progress", **self._values(names["name"])))

    def stop(self, names: Mapping[str, str], _: Mapping[str, str]) -> Response:
        self.jobs.stop(names["name"])
        return back_to(f"{_HOME}/{names['name']}")

    def again(self, names: Mapping[str, str], _: Mapping[str, str]) -> Response:
        """The same command once more: it goes on where it was."""
        job = self.jobs.start(self.jobs.get(names["name"]).arguments)
        return back_to(f"{_HOME}/{job.id}")

    def _values(self, name: str) -> dict[str, Any]:
        job = self.jobs.get(name)
        log, live = job.log(), job.state is JobState.RUNNING
        stages, closing = read_stages(log), dict(_CLOSING.findall(log))
        return {
            "job": job,
            "live": live,
            "stages": stages,
            "later": [*waiting(stages)] if live else [],
            "verdict": closing.get("verdict"),
            "report": Path(closing.get("report", "")).stem,
        }


def _number(key: str, text: str, kind: type, least: float) -> str:
    try:
        value = kind(text)
    except ValueError:
        raise Misuse(f"`{key}` is no number: `{text}`") from None
    if not least <= value < float("inf"):
        raise Misuse(f"`{key}` must be {least:g} or more, not {text}")
    return str(value)
