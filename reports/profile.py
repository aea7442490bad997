"""A single run, for the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from reports.terminal import console, printable, table

if TYPE_CHECKING:
    from rich.text import Text

    from benchmarks.profile import DomainScore, Profile
    from benchmarks.store import Manifest

_COLUMNS = (
    *("domain", "n", "accuracy", "95 % interval", "chance"),
    *("unparsed", "truncated", "errors", "verdict"),
)
_STYLES = {"strong": "green", "weak": "red", "uncertain": "yellow"}


def show(profile: Profile) -> None:
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


def remarks(profile: Profile) -> list[str]:
    """Sentences on what the table alone does not say."""
    lines = []
    for name, score in profile.domains.items():
        if score.below_chance:
            lines.append(
                f"warning: {name} is significantly below chance; that is a fault of the harness "
                "or the prompt, not of the model's knowledge"
            )
            lines += [f"  {sample}" for sample in score.samples]
        if score.further is not None:
            lines.append(
                f"{name} is uncertain against {profile.target:.2f}: about {score.further} more "
                "questions would settle it, if its accuracy stayed"
            )
    return lines


def show_manifest(manifest: Manifest) -> None:
    """Print how a run was made."""
    from rich.text import Text

    out = console()
    rows = {
        "created": manifest.created,
        "state": "finished" if manifest.finished else "unfinished",
        "engine": manifest.engine,
        "settings": manifest.settings,
        "versions": dict(manifest.versions),
        "fingerprint": dict(manifest.fingerprint),
    }
    for key, value in rows.items():
        out.print(Text(printable(f"{key:<12} {value}")))


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
