"""Terminal view of a comparison."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING

from benchmarks.results.comparison import ChangeLabel, Comparison, DomainChange
from benchmarks.results.flips import Flip, FlipKind
from domainlift.stats import formatting
from domainlift.text.display import printable
from reports import format as wording
from reports.letter_table import TITLE, comparison_letters
from reports.sanitize import line
from reports.terminal import console, table

if TYPE_CHECKING:
    from rich.text import Text


_COLUMNS = (
    *("domain", "n", "baseline", "candidate", "Δ points", "95 % interval"),
    *("p (Holm)", "gained", "lost", "could show", ""),
)
_STYLES = {
    ChangeLabel.BETTER: "bold blue",
    ChangeLabel.WORSE: "bold red",
    ChangeLabel.NO_CHANGE: "dim",
}
_LOST = ("domain", "run", "errors", "truncated", "missing", "unparsed", "cut off")
_MOST_FLIPS = 5


def show_comparison(
    comparison: Comparison, kind: FlipKind | None = None, most: int = _MOST_FLIPS
) -> None:
    """Print the verdict, the table, what differs, and the first questions of one kind."""
    from rich.text import Text

    out = console()
    out.print(Text(printable(str(wording.verdict_text(comparison))), style="bold"))
    out.print(Text(printable(f"baseline   {comparison.baseline.run}")))
    out.print(Text(printable(f"candidate  {comparison.candidate.run}")))
    out.print(_table(comparison))
    columns, letters = comparison_letters(comparison)
    if letters:
        grid = table(TITLE, *columns, right=frozenset(columns))
        for row in letters:
            grid.add_row(*row)
        out.print(grid)
    for warning in comparison.warnings:
        out.print(Text(f"warning: {line(warning, 400)}", style="yellow"))
    for note in comparison.notes:
        out.print(Text(f"note: {line(note, 400)}"))
    lost = list(_unanswered(comparison))
    if lost:
        grid = table(*_LOST, right=frozenset(_LOST[2:]))
        for cells in lost:
            grid.add_row(*cells)
        out.print(grid)
    wanted = kind if kind is not None else FlipKind.BROKEN
    chosen = [flip for flip in comparison.flips if flip.kind is wanted]
    if chosen:
        whole = comparison.overall.kinds[wanted]
        out.print(Text(f"{wanted.value} ({min(most, len(chosen))} of {whole:,}):"))
    for flip in islice(chosen, most):
        out.print(Text(_flip(flip)), soft_wrap=True)


def _table(comparison: Comparison) -> object:
    grid = table(*_COLUMNS, right=frozenset(_COLUMNS) - {"domain", ""})
    for name, row in comparison.domains.items():
        grid.add_row(*_row(name, row))
    if len(comparison.domains) > 1:
        grid.add_row(*_row("overall", comparison.overall))
    return grid


def _row(name: str, row: DomainChange) -> list[Text]:
    from rich.text import Text

    style = _STYLES.get(row.word, "")
    cells = (
        line(name, 60),
        f"{row.n:,}",
        formatting.percent(row.baseline),
        formatting.percent(row.candidate),
        formatting.points(row.delta) if row.n else "–",
        formatting.points_interval(row.interval) if row.n else "–",
        formatting.p_value(row.p_holm) if row.n else "–",
        f"{row.gained:,}",
        f"{row.lost:,}",
        wording.detectable_text(row),
        f"{wording.SIGNS[row.word]} {row.word}",
    )
    return [Text(cell, style=style if place in {4, 10} else "") for place, cell in enumerate(cells)]


def _unanswered(comparison: Comparison) -> Iterator[list[Text]]:
    from rich.text import Text

    for name, row in comparison.domains.items():
        for run, side in zip(("baseline", "candidate"), row.sides, strict=True):
            if side.faulty:
                faults = (side.errors, side.truncated, side.missing)
                counts = (*faults, side.unparsed, side.cut_off)
                yield [Text(line(name, 60)), Text(run), *(Text(f"{n:,}") for n in counts)]


def _flip(flip: Flip) -> str:
    asked = line(flip.question, 160)
    before, after, right = (
        line(flip.said(chosen), 60) for chosen in (flip.before.chosen, flip.after.chosen, flip.gold)
    )
    why = line(flip.after.treatment, 100)
    said = f"{before} → {after} (right: {right}; {why}; {line(flip.id, 60)})"
    return f"  {line(flip.domain, 60)}: {asked}\n    {said}"
