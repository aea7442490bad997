"""A single run, for the terminal."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from domainlift.text.display import printable
from reports.terminal import console, table

if TYPE_CHECKING:
    from rich.text import Text

    from benchmarks.results.domain_scores import DomainScore, EvalResult
    from benchmarks.runs.store import RunManifest

_COLUMNS = (
    *("domain", "n", "accuracy", "95 % interval", "chance"),
    *("unparsed", "truncated", "errors", "verdict"),
)
_STYLES = {"strong": "green", "weak": "red", "uncertain": "yellow"}


def show_scores(profile: EvalResult) -> None:
    """Print the table, then what a reader should know about it."""
    from rich.text import Text

    out = console()
    out.print(Text(printable(f"{profile.model} on {profile.suite} (run {profile.run})")))
    grid = table(*_COLUMNS, right=frozenset(_COLUMNS) - {"domain", "verdict"})
    for name, score in profile.domains.items():
        grid.add_row(*_row(name, score))
    if len(profile.domains) > 1:
        grid.add_row(*_row("overall", profile.overall)[:-1], end_section=True)
    out.print(grid)
    for line in remarks(profile):
        out.print(Text(printable(line)))


def remarks(profile: EvalResult) -> list[str]:
    """Sentences on what the table alone does not say."""
    lines = []
    guessed = [name for name, score in profile.domains.items() if score.at_chance]
    if guessed:
        which = "in every domain" if len(guessed) == len(profile.domains) else ", ".join(guessed)
        lines.append(f"cannot be told from guessing: {which}")
    for name, score in profile.domains.items():
        if score.below_chance:
            lines.append(
                f"warning: {name} is significantly below chance; that is a fault of the harness "
                "or the prompt, not of the model's knowledge"
            )
            lines += [f"  {sample}" for sample in score.samples]
        if score.further is not None:
            lines.append(
                f"{name} is uncertain against {profile.target:.2f}: at least {score.further} more "
                "questions would settle it, if its accuracy stayed"
            )
    if profile.overall.truncated:
        lines.append(
            f"warning: {profile.overall.truncated} questions did not fit into the model's context "
            "and were not asked; use fewer examples (`--shots`), or more context (`--context`) "
            "over Ollama"
        )
    return lines


def show_manifest(manifest: RunManifest) -> None:
    """Print how a run was made."""
    from rich.text import Text

    out = console()
    for key, value in _provenance(manifest).items():
        out.print(Text(printable(f"{key:<12} {value}")), soft_wrap=True)


def _provenance(manifest: RunManifest) -> dict[str, str]:
    settings = dict(manifest.settings)
    rows = {
        "command": settings.pop("command", ""),
        "created": manifest.created,
        "state": "finished" if manifest.finished else "unfinished",
        "tasks": _tasks(settings.pop("tasks", {})),
        "settings": _pairs(settings),
        "engine": _pairs(manifest.engine),
        "versions": _pairs(manifest.versions),
        "fingerprint": _pairs({k: v.split(":")[-1][:12] for k, v in manifest.fingerprint.items()}),
    }
    return {key: value for key, value in rows.items() if value}


def _tasks(tasks: Mapping[str, Mapping[str, Any]]) -> str:
    """How many tasks are asked in which way; the names where there are few."""
    ways = Counter(f"{way['scoring']}, {way['shots']} examples" for way in tasks.values())
    told = "; ".join(f"{count} by {way}" for way, count in ways.items())
    return f"{told} ({', '.join(tasks)})" if len(tasks) <= 5 else told


def _pairs(values: Mapping[str, Any]) -> str:
    return ", ".join(f"{k} {v}" for k, v in values.items() if v not in (None, "", [], {}, ()))


def _row(name: str, score: DomainScore) -> tuple[str | Text, ...]:
    from rich.text import Text

    accuracy = "-" if score.accuracy is None else f"{score.accuracy:.3f}"
    verdict = score.verdict.value if score.verdict is not None else "-"
    return (
        Text(printable(name)),
        str(score.n),
        accuracy,
        f"[{score.interval.low:.3f}, {score.interval.high:.3f}]".replace("[", r"\["),
        f"{score.chance:.2f}",
        str(score.unparsed),
        str(score.truncated),
        str(score.errors),
        f"[{_STYLES[verdict]}]{verdict}[/]" if verdict in _STYLES else verdict,
    )
