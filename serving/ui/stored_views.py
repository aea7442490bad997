"""Pages of what a workspace holds: runs and their comparison, knowledge bases, adapters, plans."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from starlette.responses import FileResponse, HTMLResponse, Response
from starlette.routing import BaseRoute

from benchmarks.results.comparison import compare_runs
from benchmarks.results.domain_scores import evaluate_run
from benchmarks.runs.store import RunManifest, RunStore
from domainlift.errors import Misuse, NoSuch
from domainlift.stats.formatting import accuracy, interval
from domainlift.workspace import Workspace
from ensemble.plan import read_plan
from finetune.adapters.registry import AdapterRegistry
from improve.versions.version_log import plan_files
from rag.index.store import KnowledgeBaseStore
from rag.library import library
from rag.search.retrieval import Retrieval
from reports.compare_html import render_html
from serving.ui.pages import Pages, readable

_MOST_RUNS, _HITS = 200, 8
#: A report has a policy of its own, with hashes of its style and script. It comes from a file, too,
#: which anybody may have written: so it is shown as if it came from elsewhere.
_REPORT_POLICY = {
    "Content-Security-Policy": "sandbox allow-scripts; default-src 'none'; frame-ancestors 'none'; "
    "script-src 'unsafe-inline'; style-src 'unsafe-inline'"
}


def stored_routes(pages: Pages) -> list[BaseRoute]:
    """The pages."""
    view = _StoredViews(pages, pages.workspace)
    return [
        pages.get("/runs", view.runs),
        pages.get("/runs/{name}", view.run),
        pages.get("/compare", view.compare),
        pages.get("/reports/{name}", view.report),
        pages.get("/knowledge", view.knowledge),
        pages.get("/adapters", view.adapters),
    ]


@dataclass(frozen=True)
class _StoredViews:
    pages: Pages
    workspace: Path

    def runs(self, _: Mapping[str, str], fields: Mapping[str, str]) -> Response:
        found, broken = RunStore(self.workspace).manifests()
        chosen = [each for each in reversed(found) if _fits(each, fields)]
        choices = {key: sorted({getattr(m, key) for m in found}) for key in ("model", "suite")}
        more = len(chosen) - _MOST_RUNS
        values: dict[str, Any] = {
            "choices": choices,
            "fields": {key: fields.get(key, "") for key in ("model", "suite", "text")},
            "whole": len(found),
            "broken": broken,
        }
        return self.pages.show("runs", here="/runs", runs=chosen[:_MOST_RUNS], more=more, **values)

    def run(self, names: Mapping[str, str], _: Mapping[str, str]) -> Response:
        stored = RunStore(self.workspace).get(names["name"])
        rows = [
            (domain, score.n, accuracy(score.accuracy), interval(score.interval), score.verdict)
            for domain, score in evaluate_run(stored).domains.items()
        ]
        return self.pages.show("run", here="/runs", manifest=stored.manifest, rows=rows)

    def compare(self, _: Mapping[str, str], fields: Mapping[str, str]) -> Response:
        """The report of `bench compare` on two runs."""
        names = [fields.get(key, "") for key in ("baseline", "candidate")]
        if not all(names):
            raise Misuse("a comparison needs two runs", "choose a baseline and a candidate")
        baseline, candidate = map(RunStore(self.workspace).get, names)
        return HTMLResponse(render_html(compare_runs(baseline, candidate)), headers=_REPORT_POLICY)

    def report(self, names: Mapping[str, str], _: Mapping[str, str]) -> Response:
        """A page that `bench improve` or `bench compare` wrote."""
        path = Workspace(self.workspace).report(names["name"])
        if not path.is_file():
            raise NoSuch("report", names["name"], (each.stem for each in path.parent.glob("*")))
        return FileResponse(path, headers=_REPORT_POLICY)

    def knowledge(self, _: Mapping[str, str], fields: Mapping[str, str]) -> Response:
        """All knowledge bases, and what one of them says to a question."""
        store = KnowledgeBaseStore(Workspace(self.workspace).knowledge_bases)
        bases, notes = readable(store.names(), store.manifest)
        domain, query = fields.get("domain", ""), fields.get("query", "").strip()
        method, hits = fields.get("method", "hybrid"), None
        if domain and query:
            with library(self.workspace) as shelves:
                retriever = shelves.open(domain, Retrieval(method=method), exact=True)
                hits = retriever.search([query[:2000]], _HITS)[0]
        asked = {"domain": domain, "query": query, "method": method}
        values: dict[str, Any] = {"bases": bases, "hits": hits, "asked": asked, "notes": notes}
        return self.pages.show("knowledge", here="/knowledge", **values)

    def adapters(self, _: Mapping[str, str], __: Mapping[str, str]) -> Response:
        """A card for each plan and each adapter, the newest first."""
        registry = AdapterRegistry(Workspace(self.workspace).adapters)
        cards, notes = readable(registry.list(), lambda name: (name, registry.show(name)))
        paths = plan_files(self.workspace)
        plans, wrong = readable(paths, lambda path: (path.stem, read_plan(path)))
        for found in (cards, plans):
            found.sort(key=lambda each: each[1].created, reverse=True)
        values: dict[str, Any] = {"adapters": cards, "plans": plans, "notes": notes + wrong}
        return self.pages.show("adapters", here="/adapters", **values)


def _fits(manifest: RunManifest, fields: Mapping[str, str]) -> bool:
    """Whether a run is of the wanted model and suite, and has every word of the text."""
    exact = all(fields.get(key, "") in ("", getattr(manifest, key)) for key in ("model", "suite"))
    treatment: Any = manifest.settings.get("treatment", "")
    about = f"{manifest.run} {manifest.model} {manifest.suite} {treatment} {manifest.created}"
    return exact and all(word in about.lower() for word in fields.get("text", "").lower().split())
