"""Terminal view of a run: its scores, and how it was made."""

from __future__ import annotations

import math
from string import ascii_uppercase

from rich.text import Text

from benchmarks.results.domain_scores import DomainScore, EvalResult
from benchmarks.results.error_reasons import told_reasons
from benchmarks.results.letters import HABIT_HINT
from benchmarks.runs.store import RunManifest
from benchmarks.scoring.forms import ranked_forms
from domainlift.stats.formatting import accuracy, interval
from reports.format import provenance
from reports.letter_table import show_letters
from reports.metric_tables import show_metrics
from reports.terminal import print_line, print_table

_COLUMNS = (
    *("domain", "n", "accuracy", "95 % interval", "chance"),
    *("unparsed", "cut off", "truncated", "errors", "verdict"),
)
_PROVENANCE = (
    *("command", "created", "state", "tasks", "settings", "engine", "options", "notes"),
    *("versions", "fingerprint"),
)
_STYLES = {"strong": "green", "weak": "red", "uncertain": "yellow"}


def show_scores(profile: EvalResult) -> None:
    """Print the table, then what a reader should know about it."""
    print_line(f"{profile.model} on {profile.suite} (run {profile.run})")
    debiased = profile.overall.accuracy_debiased is not None
    columns = [*_COLUMNS[:3], *(["debiased"] if debiased else []), *_COLUMNS[3:]]
    # Of texts whose perplexity is measured, none is right or wrong.
    judged = {d: s for d, s in profile.domains.items() if s.n or not s.metrics}
    rows = [_row(name, score, debiased) for name, score in judged.items()]
    if len(rows) > 1:
        rows.append(_row("overall", profile.overall, debiased)[:-1])
    if rows:
        print_table(columns, rows, right={*columns} - {"domain", "verdict"})
    show_metrics({**profile.domains, "overall": profile.overall})
    show_letters(profile)
    show_forms(profile)
    for line in remarks(profile):
        print_line(line)


def remarks(profile: EvalResult) -> list[str]:
    """Sentences on what the table alone does not say."""
    lines = []
    guessed = [name for name, score in profile.domains.items() if score.at_chance]
    if guessed:
        which = "in every domain" if len(guessed) == len(profile.domains) else ", ".join(guessed)
        lines.append(f"cannot be told from guessing: {which}")
    lines += [*_habits(profile), *_prior(profile)]
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
    if profile.overall.cut_off:
        lines.append(
            f"warning: {profile.overall.cut_off} replies were cut off by the limit of tokens and "
            "count as wrong; `--max-tokens` raises it"
        )
    if profile.overall.error_reasons:
        lines.append(f"errors: {told_reasons(profile.overall.error_reasons)}")
    if profile.overall.truncated:
        lines.append(
            f"warning: {profile.overall.truncated} questions did not fit into the model's context "
            "and were not asked; use fewer examples (`--shots`), or more context (`--context`) "
            "over Ollama"
        )
    return lines


def show_forms(profile: EvalResult) -> None:
    """Print the forms that were tried, the best first."""
    if profile.form is None or not profile.form.tried:
        return
    columns = ("accuracy", "n", "tokens per question")
    rows = [
        (form, accuracy(score.accuracy), str(score.n), f"{score.tokens:.0f}")
        for form, score in ranked_forms(profile.form.tried)
    ]
    print_table(("forms tried", *columns), rows, right=columns)


def _habits(profile: EvalResult) -> list[str]:
    """Letters that are said whatever is asked: in all, and in domains that say another one."""
    overall = profile.overall.letters
    habit = overall.habit if overall is not None else None
    lines = [f"warning: {profile.model} {overall.habit_text}" if overall and habit else ""]
    lines += [
        f"warning: in {name} it {score.letters.habit_text}"
        for name, score in profile.domains.items()
        if score.letters is not None and score.letters.habit not in {None, habit}
    ]
    return [f"{line}; {HABIT_HINT}" for line in lines if line]


def _prior(profile: EvalResult) -> list[str]:
    """What was divided out of the letters, for the largest number of options."""
    prior = profile.letter_prior
    if prior is None:
        return []
    count = max(prior.log_prior)
    shares = ", ".join(
        f"{letter} {math.exp(value):.2f}"
        for letter, value in zip(ascii_uppercase, prior.log_prior[count], strict=False)
    )
    return [
        f"debiased: the letters' prior ({shares}) is divided out, estimated from "
        f"{prior.questions} {prior.source} in every order of their options, without labels; "
        "the accuracy beside it is the one to compare with other harnesses"
    ]


def show_manifest(manifest: RunManifest) -> None:
    """Print how a run was made."""
    parts = provenance(manifest)
    for key in _PROVENANCE:
        if key in parts:
            print_line(f"{key:<12} {parts[key]}", soft_wrap=True)


def _row(name: str, score: DomainScore, debiased: bool) -> list[str | Text]:
    verdict = score.verdict.value if score.verdict is not None else "-"
    return [
        name,
        str(score.n),
        accuracy(score.accuracy),
        *([accuracy(score.accuracy_debiased)] if debiased else []),
        interval(score.interval),
        f"{score.chance:.2f}",
        str(score.unparsed),
        str(score.cut_off),
        str(score.truncated),
        str(score.errors),
        Text(verdict, style=_STYLES.get(verdict, "")),
    ]
