"""`bench route`: fit, explain and test the router."""

from __future__ import annotations

import sys
from dataclasses import asdict, replace
from pathlib import Path
from typing import Annotated, Any

import typer

from bench.options import WORKSPACE, Data, Json, WorkspaceOption, comma_separated, command_group
from benchmarks.runs.suites import load_suite
from domainlift.errors import BenchError, Misuse, NoSuch
from domainlift.text.normalise import without_copies
from domainlift.workspace import Workspace
from ensemble.fit.evaluate import route_all
from ensemble.fit.fit import FitSettings, Labelled, RouterData
from ensemble.fit.fit import fit_router as learn
from ensemble.router.examples import examples_file, write_examples
from ensemble.router.keywords import Keywords, backup, write_keywords
from improve.labelled_questions import as_training, read_labelled
from improve.route import (
    embed_examples,
    glossaries,
    keyword_file,
    labelled,
    open_router,
    own_documents,
    own_sentences,
    passages,
    written_questions,
)
from knowledge_bases.domains import Domain, companions, load_domains
from rag.embedding.registry import DEFAULT
from reports.router import show_fit, show_route, show_router_metrics
from reports.terminal import print_json

route = command_group("Fit, explain and test the router.")
Targets = Annotated[
    str | None, typer.Option("--domains", help="Route to these only, as `biology,history`.")
]
Suites = Annotated[
    list[str] | None, typer.Option("--suite", help="Suites whose questions are used.")
]


@route.command("fit")
def route_fit_command(
    suite: Suites = None,
    domains: Targets = None,
    questions: Annotated[
        list[Path] | None, typer.Option(help="Files of questions with their domains.")
    ] = None,
    passages: Annotated[
        bool, typer.Option(help="Learn words from the domains' documents, too.")
    ] = True,
    embeddings: Annotated[
        str | None,
        typer.Option(help=f"Keep examples for a second opinion by this model, say {DEFAULT}."),
    ] = None,
    keywords: Annotated[
        int, typer.Option(min=1, max=40_000, help="The most weights in the file.")
    ] = 7_000,
    weights: Annotated[int, typer.Option(min=0, help="The most weights beside it.")] = 90_000,
    out: Annotated[Path | None, typer.Option(help="Write here, not into the workspace.")] = None,
    data: Data = None,
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Learn keywords from documents, and from training and validation questions of suites.

    Without `--suite` those of all tasks at hand. Documents are those of every domain at hand, with
    questions or without. An existing keyword file is kept under another name.

    Example: bench route fit --suite demo
    """
    known = load_domains(workspace)
    targets = _targets(domains, known)
    more = [row for path in questions or () for row in as_training(read_labelled(path, known))]
    material = _material(_suites(suite, data), known, data, passages, more)
    found = learn(material, FitSettings(keywords, weights, targets), _say)
    own = own_documents(known, workspace)
    found = replace(found, sentences=own_sentences(own, material.rows, workspace))
    path = out if out is not None else Workspace(workspace).keywords
    aside = backup(path)
    if aside is not None:
        _say(f"the keywords that stood there are kept as `{aside}`")
    write_keywords(path, found)
    beside = examples_file(path)
    if embeddings is not None:
        _say(f"embedding examples with {embeddings}")
        write_examples(beside, embed_examples(material, embeddings, workspace))
    else:
        beside.unlink(missing_ok=True)
    told = _told(found, path, aside)
    if as_json:
        print_json(told)
        return

    show_fit(told)


@route.command("explain")
def route_explain_command(
    text: Annotated[str, typer.Argument(help="A question.")],
    option: Annotated[list[str] | None, typer.Option(help="One of its options.")] = None,
    domain: Annotated[str | None, typer.Option(help="The domain that a user named.")] = None,
    domains: Targets = None,
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Show where a question goes, and why.

    Example: bench route explain "Which gland makes insulin?"
    """
    router = open_router(workspace, _targets(domains, load_domains(workspace)))
    found = router.route(text, tuple(option if option is not None else ()), domain)
    if as_json:
        row = asdict(found)
        row["rung"] = row.pop("decided_by")
        print_json(row)
        return
    show_route(found, str(keyword_file(workspace)))


@route.command("test")
def route_test_command(
    file: Annotated[
        Path | None, typer.Argument(help="Questions with their `domain`, or `base`.")
    ] = None,
    suite: Suites = None,
    domains: Targets = None,
    bare: Annotated[bool, typer.Option("--bare", help="Leave the options out.")] = False,
    data: Data = None,
    workspace: WorkspaceOption = WORKSPACE,
    as_json: Json = False,
) -> None:
    """Route the questions of a file, or the test questions of suites, and count.

    No fit has seen the test questions of suites; copies of training and validation questions are
    left out. A row of a file has `question`, `domain`, and perhaps `options` and `also`, a list of
    other domains that would be right.

    Example: bench route test --suite demo
    """
    known = load_domains(workspace)
    router = open_router(workspace, _targets(domains, known))
    if file is not None and suite is not None:
        raise Misuse("a file and `--suite` cannot be tested together", "give one of them")
    rows, copies = (
        _held_out(_suites(suite, data), known, data)
        if file is None
        else (read_labelled(file, known), 0)
    )
    quality = route_all(router, rows, options=not bare)
    if as_json:
        print_json({**quality.as_json(), "copies": copies})
        return

    show_router_metrics(quality, copies)


def _told(found: Keywords, path: Path, aside: Path | None) -> dict[str, Any]:
    return {
        "file": str(path),
        "kept": None if aside is None else str(aside),
        "bytes": path.stat().st_size + len(found.classifier),
        "terms": sum(len(domain.terms) for domain in found.domains.values()),
        **asdict(found.calibration),
        **found.fitted,
    }


def _targets(names: str | None, known: dict[str, Domain]) -> tuple[str, ...] | None:
    if names is None:
        return None
    wanted = comma_separated(names)
    for name in wanted:
        if name not in known:
            raise NoSuch("domain", name, known, "bench domains")
    if not wanted:
        raise Misuse("`--domains` names no domain", "`bench domains` lists them")
    return wanted


def _suites(given: list[str] | None, data: Path | None) -> list[str]:
    """All tasks where a mirror holds their questions, the built-in ones where there is none."""
    if given is not None:
        return given
    return ["full"] if data is not None else ["demo"]


def _material(
    suites: list[str],
    known: dict[str, Domain],
    data: Path | None,
    with_passages: bool,
    more: list[Labelled],
) -> RouterData:
    rows, copies = _learned(suites, known, data, more)
    if copies:
        _say(f"{copies} copies of test questions are left out")
    around = companions(known, {row.domain for row in rows})
    return RouterData(rows, glossaries(around), passages(around, data) if with_passages else ())


def _learned(
    suites: list[str], known: dict[str, Domain], data: Path | None, more: list[Labelled]
) -> tuple[list[Labelled], int]:
    """What may be learned from; copies of test questions may not."""
    tasks = _tasks(suites, known)
    rows, missing = labelled(tasks, known, data)
    rows += more
    rows += written_questions(companions(known, {row.domain for row in rows}))
    for line in missing:
        _say(line)
    tested, _ = labelled(tasks, known, data, ("test",))
    kept = without_copies(rows, of=tested)
    return kept, len(rows) - len(kept)


def _held_out(
    suites: list[str], known: dict[str, Domain], data: Path | None
) -> tuple[list[Labelled], int]:
    """Test questions; those that stand in another split too may have been learned."""
    tasks = _tasks(suites, known)
    rows, missing = labelled(tasks, known, data, ("test",))
    if not rows:
        why = missing[0] if missing else "the suite has no tasks"
        raise BenchError(f"there are no questions: {why}", "give `--data FOLDER` or BENCH_DATA")
    for line in missing:
        _say(line)
    kept = without_copies(rows, of=labelled(tasks, known, data)[0])
    return kept, len(rows) - len(kept)


def _tasks(suites: list[str], known: dict[str, Domain]) -> list[str]:
    return list(dict.fromkeys(task for name in suites for task in load_suite(name, known).tasks))


def _say(line: str) -> None:
    print(line, file=sys.stderr)
