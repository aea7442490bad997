"""Terminal view of a comparison."""

from __future__ import annotations

from collections.abc import Iterator

from rich.text import Text

from benchmarks.results.comparison import ChangeLabel, Comparison, DomainChange
from benchmarks.results.flips import Flip, FlipKind
from reports import format as wording
from reports.letter_table import TITLE, comparison_letters
from reports.metric_tables import show_metric_changes
from reports.sanitize import line
from reports.terminal import print_line, print_table

_STYLES = {
    ChangeLabel.BETTER: "bold blue",
    ChangeLabel.WORSE: "bold red",
    ChangeLabel.NO_CHANGE: "dim",
}
_MOST_FLIPS = 5


def show_comparison(
    comparison: Comparison, kind: FlipKind | None = None, most: int = _MOST_FLIPS
) -> None:
    """Print the verdict, the table, what differs, and the first questions of one kind."""
    print_line(str(wording.verdict_text(comparison)), "bold")
    print_line(f"baseline   {comparison.baseline.run}")
    print_line(f"candidate  {comparison.candidate.run}")
    columns = ["domain", *wording.change_cells(comparison.overall)]
    print_table(columns, _rows(comparison), right={*columns} - {"domain", ""})
    show_metric_changes(comparison)
    shown, letters = comparison_letters(comparison)
    if letters:
        print_table((TITLE, *shown), letters, right=shown)
    for warning in comparison.warnings:
        print_line(f"warning: {line(warning, 400)}", "yellow")
    for note in comparison.notes:
        print_line(f"note: {line(note, 400)}")
    lost = [(line(name, 60), *cells) for name, *cells in wording.unanswered(comparison)]
    if lost:
        print_table(wording.UNANSWERED, lost, right=wording.UNANSWERED[2:])
    wanted = kind if kind is not None else FlipKind.BROKEN
    chosen = [flip for flip in comparison.flips if flip.kind is wanted]
    if chosen:
        whole = comparison.overall.kinds[wanted]
        print_line(f"{wanted.value} ({min(most, len(chosen))} of {whole:,}):")
    for flip in chosen[:most]:
        for part in _flip(flip):
            print_line(part, soft_wrap=True)


def _rows(comparison: Comparison) -> Iterator[list[Text]]:
    for name, row in comparison.domains.items():
        yield _row(name, row)
    if len(comparison.domains) > 1:
        yield _row("overall", comparison.overall)


def _row(name: str, row: DomainChange) -> list[Text]:
    style = _STYLES.get(row.word, "")
    cells = {"domain": line(name, 60), **wording.change_cells(row)}
    return [Text(c, style=style if key in {"Δ points", ""} else "") for key, c in cells.items()]


def _flip(flip: Flip) -> Iterator[str]:
    asked = line(flip.question, 160)
    before, after, right = (
        line(flip.said(chosen), 60) for chosen in (flip.before.chosen, flip.after.chosen, flip.gold)
    )
    why = line(flip.after.treatment, 100)
    yield f"  {line(flip.domain, 60)}: {asked}"
    yield f"    {before} → {after} (right: {right}; {why}; {line(flip.id, 60)})"
