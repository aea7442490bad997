"""How a comparison is said: figures, signs and the verdict in a sentence."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from benchmarks.results.comparison import ChangeLabel, Comparison

if TYPE_CHECKING:
    from benchmarks.results.comparison import DomainChange
    from benchmarks.runs.store import RunManifest
    from domainlift.stats.intervals import Interval

#: A shape for each word, so that no colour needs to be told apart.
SIGNS = {
    ChangeLabel.BETTER: "▲",
    ChangeLabel.WORSE: "▼",
    ChangeLabel.NO_CHANGE: "=",
    ChangeLabel.NO_EVIDENCE: "○",
    ChangeLabel.NO_ANSWERS: "∅",
}
_MOST_NAMES = 6


def points(share: float, sign: bool = True) -> str:
    """A difference in percentage points, with one decimal and a true minus."""
    value = round(share * 100, 1)
    if not value:
        return "0.0"
    return (f"{value:+.1f}" if sign else f"{value:.1f}").replace("-", "−")


def interval(of: Interval) -> str:
    """Both ends in points."""
    return f"{points(of.low)} to {points(of.high)}"


def percent(share: float | None) -> str:
    """A share with one decimal; a dash where there is none."""
    return "–" if share is None else f"{share * 100:.1f}"


def accuracy(share: float | None) -> str:
    """A share with three decimals; a dash where there is none."""
    return "-" if share is None else f"{share:.3f}"


def p_value(p: float) -> str:
    """Three decimals, or less than the least of them."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def detectable_text(row: DomainChange) -> str:
    """The smallest effect that the row's questions could show, in points."""
    return "–" if math.isinf(row.detectable) else points(row.detectable, sign=False)


def names(comparison: Comparison) -> tuple[str, str]:
    """What tells the runs apart: the treatment, the model, both, or else their names."""
    before, after = comparison.manifests
    treatments = [str(m.settings.get("treatment", "base")) for m in (before, after)]
    if before.model == after.model and treatments[0] != treatments[1]:
        return treatments[0], treatments[1]
    if before.model != after.model:
        same = treatments[0] == treatments[1]
        return _model(before, treatments[0], same), _model(after, treatments[1], same)
    return before.run, after.run


@dataclass(frozen=True)
class VerdictText:
    """A sentence in its parts: what happened, the figures behind it, and in which domains."""

    headline: str
    figures: str = ""
    domains: str = ""

    def __str__(self) -> str:
        figures = f" ({self.figures})" if self.figures else ""
        domains = f"; {self.domains}" if self.domains else ""
        return f"{self.headline}{figures}{domains}."


def verdict_text(comparison: Comparison) -> VerdictText:
    """The whole in one sentence."""
    row = comparison.overall
    if row.word is ChangeLabel.NO_ANSWERS:
        return VerdictText("Nothing can be said: no question has an answer in both runs")
    before, after = names(comparison)
    runs, size = f"{after} against {before}", points(abs(row.delta), sign=False)
    headline = {
        ChangeLabel.BETTER: f"Better by {size} points: {runs}",
        ChangeLabel.WORSE: f"Worse by {size} points: {runs}",
        ChangeLabel.NO_CHANGE: f"No change: {runs}, {points(row.delta)} points",
        ChangeLabel.NO_EVIDENCE: f"No evidence of a difference: {runs}, {points(row.delta)} points",
    }[row.word]
    p = p_value(row.p)
    told = p if p.startswith("<") else f"= {p}"
    figures = f"95 % interval {interval(row.interval)}, n = {row.n:,}, p {told}"
    could = _could(row) if row.word is ChangeLabel.NO_EVIDENCE else ""
    return VerdictText(headline, figures + could, _domains(comparison))


def join_names(words: Sequence[str]) -> str:
    """Names with commas and an "and"; the number where they are many."""
    if len(words) > _MOST_NAMES:
        return f"{', '.join(words[:_MOST_NAMES])} and {len(words) - _MOST_NAMES} more"
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def _model(manifest: RunManifest, treatment: str, same: bool) -> str:
    return manifest.model if same else f"{manifest.model} ({treatment})"


def _could(row: DomainChange) -> str:
    if math.isinf(row.detectable):
        return "; so few questions can show nothing"
    return f"; so many would show {detectable_text(row)}"


def _domains(comparison: Comparison) -> str:
    """Which domains moved, the furthest first, and the others' number."""
    total = len(comparison.domains)
    if total < 2:
        return ""
    better, worse = comparison.named(ChangeLabel.BETTER)[::-1], comparison.named(ChangeLabel.WORSE)
    if not better and not worse:
        return f"significantly different in none of {total} domains"
    rest = total - len(better) - len(worse)
    parts = [f"better in {join_names(better)}"] if better else []
    parts.append(f"worse in {join_names(worse)}" if worse else "worse in none")
    parts += [f"not significantly different in {rest} of {total} domains"] if rest else []
    return ", ".join(parts)
