"""Tables of letters: how often each was chosen and was right."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.results.comparison import Comparison
from benchmarks.results.domain_scores import EvalResult
from benchmarks.results.letters import LetterCounts
from domainlift.stats.formatting import p_value
from domainlift.stats.power import LEVEL
from reports.terminal import print_table

TITLE = "letters chosen / right"


def show_letters(profile: EvalResult) -> None:
    """Print the letters of all questions, and of the domains in which they are spread otherwise."""
    domains = {
        name: score.letters
        for name, score in profile.domains.items()
        if score.letters is not None and score.letters.p < LEVEL and len(profile.domains) > 1
    }
    columns, rows = letter_table({**domains, "overall": profile.overall.letters})
    if rows:
        print_table((TITLE, *columns), rows, right=columns)


def comparison_letters(comparison: Comparison) -> tuple[list[str], list[list[str]]]:
    """The columns besides the first and the rows of both runs' letters; no rows without any."""
    sides = zip(("baseline", "candidate"), comparison.overall.sides, strict=True)
    return letter_table({name: side.letters for name, side in sides})


def letter_table(counts: Mapping[str, LetterCounts | None]) -> tuple[list[str], list[list[str]]]:
    """A column per letter and one for p, and a row per entry that has letters."""
    shown = {name: each for name, each in counts.items() if each is not None}
    letters: Sequence[str] = max((list(each.gold) for each in shown.values()), key=len, default=[])
    rows = [
        [name, *(_cell(each, letter) for letter in letters), p_value(each.p)]
        for name, each in shown.items()
    ]
    return [*letters, "p"], rows


def _cell(counts: LetterCounts, letter: str) -> str:
    if letter not in counts.gold:
        return "–"
    return f"{counts.chosen[letter]:,} / {counts.gold[letter]:,}"
