"""View of a comparison as one HTML file: no network, no foreign script, below a megabyte.

The page forbids itself to load anything, and to run any script but its own, by a
Content-Security-Policy with hashes; styles and the small script stand in it. Everything foreign is
cut, freed of control characters and escaped. `templates/` holds the page, a question of the list,
the style and the script; with scripts off the whole page is there, only unfiltered.
"""

from __future__ import annotations

import base64
import hashlib
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from benchmarks.results.comparison import ChangeLabel, Comparison
from benchmarks.results.flips import Flip, FlipKind
from benchmarks.results.route_counts import BASE, RouteCounts
from benchmarks.runs.store import RunManifest
from domainlift import __version__
from domainlift.stats import formatting
from domainlift.stats.paired import MARGIN
from reports import format as wording
from reports.chart import chart
from reports.letter_table import TITLE, comparison_letters
from reports.metric_tables import METRIC_CHANGES, metric_change_rows
from reports.sanitize import block, line

if TYPE_CHECKING:
    from jinja2 import Environment
    from markupsafe import Markup


#: A page stays below a megabyte: questions are left out before it grows beyond this.
MOST_BYTES = 950_000
_MOST_DOMAINS = 120
_MOST_CHARTED = 60
_MOST_ROUTES = 24
_MOST_WARNINGS = 60
_PROVENANCE = (
    *("model", "suite", "created", "state", "questions", "seconds", "forward tokens"),
    *("settings", "engine", "options", "versions", "fingerprint"),
)
_OTHERS = "other routes"
_FLIPS = "<!--flips-->"
_TEMPLATES = Path(__file__).parent / "templates"
_KIND_SIGNS = {FlipKind.BROKEN: "▼", FlipKind.FIXED: "▲", FlipKind.NEITHER: "✕", FlipKind.BOTH: "✓"}


@dataclass(frozen=True)
class ReportSection:
    """Something more for the page: a heading, a paragraph, a table, or any of them."""

    title: str
    columns: Sequence[str] = ()
    rows: Sequence[Sequence[object]] = ()
    text: str = ""


def render_html(comparison: Comparison, sections: Sequence[ReportSection] = ()) -> str:
    """The page; `sections` stand before the one on how the runs were made."""
    environment = _environment()
    page = environment.get_template("compare.html.j2").render(_page(comparison, sections))
    flip = environment.get_template("flip.html.j2")
    whole = comparison.overall.kinds
    longest = _note(environment, comparison, {kind: max(0, whole[kind] - 1) for kind in FlipKind})
    room = MOST_BYTES - len(page.encode()) - len(longest.encode())
    items: list[str] = []
    for each in comparison.flips:
        item = flip.render(flip=_flip(each))
        room -= len(item.encode())
        if room < 0:
            break
        items.append(item)
    shown = {kind: sum(f.kind is kind for f in comparison.flips[: len(items)]) for kind in FlipKind}
    return page.replace(_FLIPS, _note(environment, comparison, shown) + "".join(items), 1)


def _note(environment: Environment, comparison: Comparison, shown: Mapping[FlipKind, int]) -> str:
    """What stands before the questions: how many there are, and how many are shown."""
    template = environment.get_template("shown.html.j2")
    return template.render(kinds=_kinds(comparison, shown), cloze=_has_cloze(comparison))


def _environment() -> Environment:
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    made = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters.update(
        line=line,
        block=block,
        points=formatting.points,
        interval=formatting.points_interval,
        percent=formatting.percent,
        p=formatting.p_value,
        detectable=wording.detectable_text,
        ticked=_ticked,
        slug=lambda word: str(word).replace(" ", "-"),
    )
    return made


def _ticked(text: str) -> Markup:
    """A sentence of ours with foreign names in backticks, which become code."""
    from markupsafe import Markup, escape

    # Escaped before, and backticks mean nothing to HTML.
    return Markup(re.sub(r"`([^`]*)`", r"<code>\1</code>", str(escape(line(text, 400)))))  # noqa: S704


def _page(comparison: Comparison, sections: Sequence[ReportSection]) -> dict[str, Any]:
    from markupsafe import Markup

    style, script = (_own(name) for name in ("compare.css", "compare.js"))
    rows = list(comparison.domains.items())
    return {
        # These two are files of this package.
        "style": Markup(style),  # noqa: S704
        "script": Markup(script),  # noqa: S704
        "policy": _policy(style, script),
        "c": comparison,
        "verdict": wording.verdict_text(comparison),
        "names": wording.names(comparison),
        "rows": rows[:_MOST_DOMAINS],
        "more": max(0, len(rows) - _MOST_DOMAINS),
        "signs": wording.SIGNS,
        "margin": round(MARGIN * 100),
        "chart": chart(rows[:_MOST_CHARTED]),
        "more_charted": max(0, len(rows) - _MOST_CHARTED),
        "warnings": comparison.warnings[:_MOST_WARNINGS],
        "routes": _routes(comparison),
        "treated": _treated(comparison),
        "retrieved": any(side.retrieved for side in comparison.overall.sides),
        "sections": [*_metrics(comparison), *_letters(comparison), *sections],
        "runs": [_provenance(manifest) for manifest in comparison.manifests],
        "again": shlex.join(
            ["bench", "compare", comparison.baseline.run, comparison.candidate.run]
        ),
        "version": __version__,
        "words": ChangeLabel,
        "flip_domains": sorted({flip.domain for flip in comparison.flips}),
        "kinds": [(kind, _KIND_SIGNS[kind]) for kind in FlipKind],
    }


def _own(name: str) -> str:
    return (_TEMPLATES / name).read_text(encoding="utf-8")


def _policy(style: str, script: str) -> str:
    """Nothing may be loaded or sent; only the page's own style and script count."""
    hashes = [
        base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()
        for text in (style, script)
    ]
    return (
        f"default-src 'none'; style-src 'sha256-{hashes[0]}'; script-src 'sha256-{hashes[1]}'; "
        "base-uri 'none'; form-action 'none'"
    )


def _kinds(comparison: Comparison, shown: Mapping[FlipKind, int]) -> list[dict[str, Any]]:
    whole = comparison.overall.kinds
    return [{"name": kind, "shown": shown[kind], "whole": whole[kind]} for kind in FlipKind]


def _has_cloze(comparison: Comparison) -> bool:
    tasks = comparison.candidate.settings.get("tasks", {})
    return any(way.get("scoring") == "cloze" for way in tasks.values())


def _flip(flip: Flip) -> dict[str, Any]:
    before, after = flip.before, flip.after
    options = [
        {
            "letter": chr(ord("A") + place),
            "text": text,
            "right": place == flip.gold,
            "chosen": [reply.chosen == place for reply in (before, after)],
            "shares": [_share(reply.probabilities, place) for reply in (before, after)],
        }
        for place, text in enumerate(flip.options)
    ]
    return {
        "it": flip,
        "sign": _KIND_SIGNS[flip.kind],
        "options": options,
        "gold": None if isinstance(flip.gold, int) else flip.gold,
        "measured": bool(before.probabilities or after.probabilities),
        "replies": [("before", before), ("after", after)],
    }


def _share(probabilities: Sequence[float], place: int) -> float | None:
    return probabilities[place] * 100 if place < len(probabilities) else None


def _routes(comparison: Comparison) -> dict[str, Any] | None:
    """The confusion matrix of the largest domains and routes; None without a router."""
    found = comparison.routes
    if not found.n:
        return None
    sent: Counter[str] = Counter()
    asked: Counter[str] = Counter()
    for (domain, route), n in found.confusion.items():
        sent[route] += n
        asked[domain] += n
    routes = _largest(sent, _MOST_ROUTES, without=BASE)
    domains = _largest(asked, _MOST_DOMAINS)
    columns = [*routes, _OTHERS, BASE] if sent.keys() - {*routes, BASE} else [*routes, BASE]
    return {
        "columns": columns,
        "rows": [(name, _routed(found, name, columns, asked[name])) for name in domains],
        "more": len(asked) - len(domains),
        "found": found,
        "decided_by": found.decided_by.most_common(),
    }


def _routed(
    found: RouteCounts, domain: str, columns: Sequence[str], whole: int
) -> list[tuple[int, int, bool]]:
    """The cells of a row: how many, in which of five shades, and whether it is the own domain."""
    counts = {route: found.confusion[domain, route] for route in columns}
    if _OTHERS in counts:
        counts[_OTHERS] = whole - sum(counts.values())
    return [(n, -(-5 * n // whole), route == domain) for route, n in counts.items()]


def _largest(counts: Counter[str], most: int, without: str | None = None) -> list[str]:
    """The names that stand for most, in the order of the alphabet."""
    ranked = sorted(counts.keys() - {without}, key=lambda name: (-counts[name], name))
    return sorted(ranked[:most])


def _metrics(comparison: Comparison) -> list[ReportSection]:
    rows = metric_change_rows(comparison)
    return [ReportSection("Metrics", METRIC_CHANGES, rows)] if rows else []


def _letters(comparison: Comparison) -> list[ReportSection]:
    columns, rows = comparison_letters(comparison)
    return [ReportSection("Letters", (TITLE, *columns), rows)] if rows else []


def _treated(comparison: Comparison) -> dict[str, Any]:
    """What was done to the candidate's questions, in the largest domains."""
    found = comparison.routes.treated
    columns = sorted({done for _, done in found}, key=lambda done: (done != BASE, done))
    asked: Counter[str] = Counter()
    for (domain, _), n in found.items():
        asked[domain] += n
    domains = _largest(asked, _MOST_DOMAINS)
    rows = [(domain, [found[domain, done] for done in columns]) for domain in domains]
    return {"columns": columns, "rows": rows, "more": len(asked) - len(domains)}


def _provenance(manifest: RunManifest) -> dict[str, Any]:
    parts = wording.provenance(manifest)
    return {
        "name": manifest.run,
        "command": parts.get("command", ""),
        "parts": {key: line(parts[key], 600) for key in _PROVENANCE if key in parts},
    }
