"""View of a comparison in GitHub's Markdown, for a pull request."""

from __future__ import annotations

import html
import re
from collections.abc import Iterator, Sequence

from benchmarks.results.comparison import Comparison, DomainChange
from benchmarks.results.flips import Flip, FlipKind
from reports import format as wording
from reports.compare_json import SCHEMA
from reports.letter_table import TITLE, comparison_letters
from reports.metric_tables import METRIC_CHANGES, metric_change_rows
from reports.sanitize import line

_MARKUP = re.compile(r"([\\`*_{}\[\]!|~$])")
# GitHub looks for names and numbers once entities are resolved, so that these need a character of
# no width within. `#` comes first, as the others write one.
_LINKS = (
    (re.compile("#"), "#&#8203;"),
    (re.compile("@"), "@&#8203;"),
    (re.compile(r"\b(GH)-(?=\d)", re.IGNORECASE), r"\1&#8203;-"),
    (re.compile("://"), "&#58;//"),
    (re.compile(r"\b(www)\.", re.IGNORECASE), r"\1&#46;"),
)
_MOST_FLIPS = 10
#: A comment may have 65,536 characters; the table of so many domains stays well below.
_MOST_DOMAINS = 150
_HEADER = (
    "| domain | n | baseline | candidate | Δ points | 95 % interval | p (Holm) | gained / lost "
    "| could show | |\n|---|--:|--:|--:|--:|--:|--:|--:|--:|---|"
)


def render_markdown(comparison: Comparison, kind: FlipKind = FlipKind.BROKEN) -> str:
    """The verdict, the table, what differs, what was not answered, and some questions."""
    letters, counts = comparison_letters(comparison)
    lost = [(line(name, 80), *cells) for name, *cells in wording.unanswered(comparison)]
    parts = [
        f"### {markdown_text(wording.verdict_text(comparison), 600)}",
        "\n".join([_HEADER, *_table(comparison)]),
        _grid(METRIC_CHANGES, metric_change_rows(comparison)[:_MOST_DOMAINS], 2),
        _grid((TITLE, *letters), counts, 1),
        "\n".join(f"- ⚠ {markdown_text(warning, 400)}" for warning in comparison.warnings[:30]),
        "\n".join(f"- note: {markdown_text(note, 400)}" for note in comparison.notes[:10]),
        _grid(wording.UNANSWERED, lost[:_MOST_DOMAINS], 2),
        "\n".join(_flips(comparison, kind)),
        f"<sub>baseline `{_code(comparison.baseline.run)}` · candidate "
        f"`{_code(comparison.candidate.run)}` · exact McNemar, Holm over domains · schema "
        f"{SCHEMA}</sub>",
    ]
    return "\n\n".join(filter(None, parts)) + "\n"


def _table(comparison: Comparison) -> Iterator[str]:
    rows = list(comparison.domains.items())
    for name, row in rows[:_MOST_DOMAINS]:
        yield _row(markdown_text(name, 80), row)
    if len(rows) > _MOST_DOMAINS:
        yield f"| *and {len(rows) - _MOST_DOMAINS} more* | | | | | | | | | |"
    if len(rows) > 1:
        yield _row("**overall**", comparison.overall)


def _row(name: str, row: DomainChange) -> str:
    cells = wording.change_cells(row)
    cells["gained"] += f" / {cells.pop('lost')}"
    cells["p (Holm)"] = markdown_text(cells["p (Holm)"])
    if row.n:
        cells["Δ points"] = f"**{cells['Δ points']}**"
    return f"| {' | '.join((name, *cells.values()))} |"


def _grid(columns: Sequence[str], rows: Sequence[Sequence[str]], texts: int) -> str:
    """A table, of which the first columns are `texts` and the others numbers; "" without rows."""
    aligned = "---|" * texts + "--:|" * (len(columns) - texts)
    body = (f"| {' | '.join(map(markdown_text, row))} |" for row in rows)
    return "\n".join([f"| {' | '.join(columns)} |", f"|{aligned}", *body]) if rows else ""


def _flips(comparison: Comparison, kind: FlipKind) -> Iterator[str]:
    chosen = [flip for flip in comparison.flips if flip.kind is kind][:_MOST_FLIPS]
    if chosen:
        whole = comparison.overall.kinds[kind]
        yield f"<details><summary>{kind.value}: {len(chosen)} of {whole:,}</summary>\n"
        yield from map(_flip, chosen)
        yield "\n</details>"


def _flip(flip: Flip) -> str:
    before, after, right = (
        markdown_text(flip.said(chosen), 80)
        for chosen in (flip.before.chosen, flip.after.chosen, flip.gold)
    )
    why = markdown_text(flip.after.treatment, 100)
    return (
        f"- **{markdown_text(flip.domain, 80)}** {markdown_text(flip.question, 300)}<br>"
        f"{before} → {after} (right: {right}; {why}; `{_code(flip.id)}`)"
    )


def markdown_text(text: object, most: int = 200) -> str:
    """Foreign text that is neither HTML nor Markdown, calls nobody and links nowhere."""
    safe = _MARKUP.sub(r"\\\1", html.escape(line(text, most), quote=False))
    for sign, broken in _LINKS:
        safe = sign.sub(broken, safe)
    return safe


def _code(text: str) -> str:
    return line(text, 120).replace("`", "'")
