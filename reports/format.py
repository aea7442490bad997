"""Text of results: signs, the verdict in a sentence, and how a run was made."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from benchmarks.results.comparison import ChangeLabel, Comparison, DomainChange
from benchmarks.runs.store import RunManifest
from domainlift.stats.formatting import p_value, percent, points, points_interval

#: A shape for each word, so that no colour needs to be told apart.
SIGNS = {
    ChangeLabel.BETTER: "▲",
    ChangeLabel.WORSE: "▼",
    ChangeLabel.NO_CHANGE: "=",
    ChangeLabel.NO_EVIDENCE: "○",
    ChangeLabel.NO_ANSWERS: "∅",
}
#: Columns of the questions that one run of a comparison has no proper answer to.
UNANSWERED = ("domain", "run", "errors", "truncated", "missing", "unparsed", "cut off")
_MOST_NAMES = 6


def detectable_text(row: DomainChange) -> str:
    """The smallest effect that the row's questions could show, in points."""
    return "–" if math.isinf(row.detectable) else points(row.detectable, sign=False)


def change_cells(row: DomainChange) -> dict[str, str]:
    """The cells of a domain by column; dashes for a change where nothing was answered."""
    change = points(row.difference), points_interval(row.interval), p_value(row.p_holm)
    delta, interval, p = change if row.n else ("–", "–", "–")
    return {
        "n": f"{row.n:,}",
        "baseline": percent(row.baseline),
        "candidate": percent(row.candidate),
        "Δ points": delta,
        "95 % interval": interval,
        "p (Holm)": p,
        "gained": f"{row.gains:,}",
        "lost": f"{row.losses:,}",
        "could show": detectable_text(row),
        "": f"{SIGNS[row.word]} {row.word}",
    }


def unanswered(comparison: Comparison) -> Iterator[tuple[str, ...]]:
    """The cells below `UNANSWERED`, for each domain and run that lack answers."""
    for name, row in comparison.domains.items():
        for run, side in zip(("baseline", "candidate"), row.sides, strict=True):
            if side.faulty:
                faults = (side.errors, side.truncated, side.missing, side.unparsed, side.cut_off)
                yield name, run, *(f"{n:,}" for n in faults)


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
    if row.word is ChangeLabel.NO_ANSWERS and row.metrics:
        return VerdictText(
            "No answer is right or wrong in both runs; metrics alone tell them apart"
        )
    if row.word is ChangeLabel.NO_ANSWERS:
        return VerdictText("Nothing can be said: no question has an answer in both runs")
    before, after = names(comparison)
    runs, size = f"{after} against {before}", points(abs(row.difference), sign=False)
    change = f"{runs}, {points(row.difference)} points"
    headline = {
        ChangeLabel.BETTER: f"Better by {size} points: {runs}",
        ChangeLabel.WORSE: f"Worse by {size} points: {runs}",
        ChangeLabel.NO_CHANGE: f"No change: {change}",
        ChangeLabel.NO_EVIDENCE: f"No evidence of a difference: {change}",
    }[row.word]
    p = p_value(row.p)
    told = p if p.startswith("<") else f"= {p}"
    figures = f"95 % interval {points_interval(row.interval)}, n = {row.n:,}, p {told}"
    could = _could(row) if row.word is ChangeLabel.NO_EVIDENCE else ""
    return VerdictText(headline, figures + could, _domains(comparison))


def join_names(words: Sequence[str]) -> str:
    """Names with commas and an "and"; the number where they are many."""
    if len(words) > _MOST_NAMES:
        return f"{', '.join(words[:_MOST_NAMES])} and {len(words) - _MOST_NAMES} more"
    return " and ".join(filter(None, [", ".join(words[:-1]), *words[-1:]]))


def provenance(manifest: RunManifest) -> dict[str, str]:
    """How a run was made, one text per part; parts without content are left out."""
    settings, engine = dict(manifest.settings), dict(manifest.engine)
    parts = {
        "command": str(settings.pop("command", "")),
        "model": manifest.model,
        "suite": manifest.suite,
        "created": manifest.created,
        "state": "finished" if manifest.finished else "unfinished",
        "questions": f"{manifest.questions:,}",
        "seconds": f"{manifest.seconds:,.1f}",
        "forward tokens": f"{manifest.forward_tokens:,}",
        "tasks": _tasks(settings.pop("tasks", {})),
        "settings": _key_values(settings),
        "options": _key_values(engine.pop("options", {})),
        "notes": "; ".join(map(str, engine.pop("notes", ()))),
        "engine": _key_values(engine),
        "versions": _key_values(manifest.versions),
        "fingerprint": _key_values(
            {k: v.split(":")[-1][:12] for k, v in manifest.fingerprint.items()}
        ),
    }
    return {key: value for key, value in parts.items() if value}


def _key_values(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in values.items() if v not in (None, "", [], {}, ()))


def _tasks(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """How many tasks are asked in which way; the names where there are few."""
    ways = Counter(f"{way['scoring']}, {way['shots']} examples" for way in tasks.values())
    counts = "; ".join(f"{count} by {way}" for way, count in ways.items())
    return f"{counts} ({', '.join(tasks)})" if len(tasks) <= 5 else counts


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
