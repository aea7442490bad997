"""`bench compare`: what changed between runs."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from itertools import chain, starmap
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.options import WORKSPACE, Domains, Json, WorkspaceOption, comma_separated
from benchmarks.results.comparison import ChangeLabel, Comparison, compare_runs
from benchmarks.results.flips import FlipKind, Runs, all_flips
from benchmarks.results.pairing import Pair, pair_runs
from benchmarks.runs.store import Run, RunStore
from domainlift.errors import Misuse, begun_name, member_of
from domainlift.files import disk_errors, write_text
from domainlift.text.display import printable
from domainlift.workspace import Workspace
from reports.compare_html import render_html
from reports.compare_json import SCHEMA, as_json
from reports.compare_markdown import render_markdown
from reports.compare_terminal import show_comparison
from reports.terminal import print_json

#: The name that stands for the newest run.
LATEST = "latest"
_MANY = 20


def compare_command(
    run: Annotated[
        list[str],
        typer.Argument(
            metavar="RUN",
            help="The baseline, then what is compared with it: names, beginnings of names, or "
            "`latest`.",
        ),
    ],
    html: Annotated[
        Path | None,
        typer.Option(
            help="Where the page goes. [default: WORKSPACE/reports/BASELINE-vs-CANDIDATE.html; "
            "none with --json or --markdown]",
            show_default=False,
        ),
    ] = None,
    markdown: Annotated[
        bool, typer.Option("--markdown", help="Print Markdown for a pull request.")
    ] = False,
    flips: Annotated[
        Path | None, typer.Option(help="Write every question that turned to this JSONL file.")
    ] = None,
    fail_on_regression: Annotated[
        bool,
        typer.Option(
            "--fail-on-regression",
            help="Exit with 1 if a domain is significantly worse, or has no answers.",
        ),
    ] = False,
    domains: Domains = None,
    show: Annotated[
        str | None,
        typer.Option(help="List questions: fixed, broken, both or neither.", show_default=False),
    ] = None,
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Compare runs question by question; the first is the baseline.

    Example: bench compare demo-tiny-1a2b3c4d latest
    """
    if markdown and as_json:
        raise Misuse("`--markdown` and `--json` both want stdout", "choose one of them")
    kind = member_of(FlipKind, "kind of question", show) if show is not None else None
    baseline, *candidates = _runs(RunStore(workspace), run)
    done = [
        _compared(baseline, each, comma_separated(domains), flips is not None)
        for each in candidates
    ]
    found = [comparison for comparison, _ in done]
    _print(found, kind, markdown, as_json)
    # A script that reads JSON gets a page only where it asks for one.
    if html is not None or not (as_json or markdown):
        for each in found:
            _write_page(each, _page_path(each, html, workspace, len(found)))
    if flips is not None:
        _write_flips(flips, [turned for _, turned in done])
    if fail_on_regression and _regressed(found):
        raise typer.Exit(1)


def _compared(
    baseline: Run, candidate: Run, domains: Sequence[str], keep: bool
) -> tuple[Comparison, tuple[Sequence[Pair], Runs]]:
    """Compare two runs and, to keep, what turned; a pair of runs is large, and let go after it."""
    joined = pair_runs(baseline, candidate, domains)
    turned = [pair for pair in joined.pairs if pair.change] if keep else []
    return compare_runs(baseline, candidate, joined), (turned, (baseline, candidate))


def _regressed(found: Sequence[Comparison]) -> bool:
    """Say on stderr what got worse; what has no answers any more has not passed either."""
    told = []
    for each in found:
        worse, silent = each.regressed, each.named(ChangeLabel.NO_ANSWERS)
        told += [f"significantly worse in {', '.join(worse)}"] if worse else []
        told += [f"no answers in {', '.join(silent)}"] if silent else []
        if each.overall.word is ChangeLabel.WORSE and not worse:
            told.append("significantly worse overall")
    for line in dict.fromkeys(told):
        print(f"regression: {printable(line)}", file=sys.stderr)
    return bool(told)


def _runs(store: RunStore, names: Sequence[str]) -> list[Run]:
    if len(names) < 2:
        raise Misuse(
            "a comparison needs two runs", "name the baseline first; `bench runs list` shows all"
        )
    return [store.get(_resolved(store, name)) for name in names]


def _resolved(store: RunStore, name: str) -> str:
    """A run's name from `latest` or from a beginning that only one run has."""
    known = store.ids()
    if name == LATEST:
        if not known:
            raise Misuse("there is no run yet", "make one: `bench run`")
        return known[-1]
    return begun_name("run", name, known, "bench runs list", "bench run")


def _print(
    found: Sequence[Comparison], kind: FlipKind | None, markdown: bool, as_json: bool
) -> None:
    if as_json:
        print_json(_object(found, kind))
    elif markdown:
        given = {} if kind is None else {"kind": kind}
        print("\n".join(render_markdown(each, **given) for each in found), end="")
    else:
        for place, each in enumerate(found):
            if place:
                print()
            show_comparison(each) if kind is None else show_comparison(each, kind, _MANY)


def _object(found: Sequence[Comparison], kind: FlipKind | None) -> dict[str, Any]:
    """One comparison is the object itself; several stand in a list."""
    wanted = tuple(FlipKind) if kind is None else (kind,)
    made = [as_json(each, wanted) for each in found]
    if len(made) == 1:
        return made[0]
    return {"schema": SCHEMA, "baseline": found[0].baseline.run, "comparisons": made}


def _page_path(each: Comparison, html: Path | None, workspace: Path, count: int) -> Path:
    if html is None:
        return Workspace(workspace).report(f"{each.baseline.run}-vs-{each.candidate.run}")
    if count == 1:
        return html
    return html.with_name(f"{html.stem}-{each.candidate.run}{html.suffix}")


def _write_page(each: Comparison, path: Path) -> None:
    write_text(path, render_html(each))
    print(f"report: {path}", file=sys.stderr)


def _write_flips(path: Path, turned: Sequence[tuple[Sequence[Pair], Runs]]) -> None:
    count = 0
    with disk_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("w", encoding="utf-8", newline="\n", errors="backslashreplace") as file:
            for row in chain.from_iterable(starmap(all_flips, turned)):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
                count += 1
    print(f"flips: {path} ({count:,} questions)", file=sys.stderr)
