"""`bench data`: what an adapter learns from."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bench.options import WORKSPACE, Data, Json, WorkspaceOption
from domainlift.errors import Misuse, NoSuch
from domainlift.workspace import Workspace
from improve.synthesize import ContextOptions, SynthesisOptions, SyntheticRows, extras

if TYPE_CHECKING:
    from benchmarks.tasks.base import Task
    from domainlift.text.contamination import QuestionIndex
    from finetune.data.prepare import PreparedDataset
    from finetune.data.question_rows import Render
    from finetune.data.rows import Row
    from knowledge_bases.domains import Domain

data = typer.Typer(
    help="Prepare and check training data.", no_args_is_help=True, rich_markup_mode=None
)
_KINDS = ("record", "cloze", "continue")


@data.command("prepare")
def prepare_command(
    domain: Annotated[
        list[str], typer.Argument(metavar="DOMAIN...", help="`bench domains` lists them.")
    ],
    size: Annotated[int | None, typer.Option(min=1, help="At most so many rows.")] = None,
    file: Annotated[
        list[Path] | None, typer.Option(help="Rows of your own, in any common format.")
    ] = None,
    own: Annotated[
        bool, typer.Option("--own", help="Only the domain's own questions, no other sources.")
    ] = False,
    name: Annotated[str | None, typer.Option(help="Of the data set. [default: DOMAIN]")] = None,
    from_kb: Annotated[
        bool,
        typer.Option("--from-kb", help="Also what `--model` writes about the knowledge base."),
    ] = False,
    model: Annotated[
        str | None, typer.Option("--model", "-m", envvar="BENCH_MODEL", help="What writes.")
    ] = None,
    passages: Annotated[
        int | None, typer.Option(min=1, help="Write about at most so many. [default: all]")
    ] = None,
    unchecked: Annotated[
        bool, typer.Option("--unchecked", help="Check what is written by its words alone.")
    ] = False,
    with_context: Annotated[
        bool,
        typer.Option("--with-context", help="Also each question with passages before it."),
    ] = False,
    distractors: Annotated[
        int, typer.Option(min=1, help="Passages without the answer, per question.")
    ] = 2,
    seed: Annotated[int, typer.Option(help="Of the choice of rows.")] = 0,
    workspace: WorkspaceOption = WORKSPACE,
    data: Data = None,
    as_json: Json = False,
) -> None:
    """Make the training data of a domain: clean, without copies and leaks, and split.

    Its training questions, its declared sources turned into questions, and files of your own.
    What is written from a knowledge base is kept: the same command goes on where it stopped.

    Example: bench data prepare biology --file notes.jsonl
    """
    from knowledge_bases.domains import bare_domain, load_domains

    if name is not None and len(domain) > 1:
        raise Misuse("`--name` is for one data set", "prepare one domain after another")
    domains = load_domains(workspace)
    files = tuple(file if file is not None else ())
    author = SynthesisOptions(model, passages, not unchecked, seed) if from_kb else None
    layout = ContextOptions(distractors, seed) if with_context else None
    indexes = BenchmarkIndexes()
    for each in domain:
        # With rows of one's own, a domain needs no domain.yaml.
        if each not in domains and not files:
            raise NoSuch("domain", each, domains, "bench domains")
        found = domains.get(each, bare_domain(each))
        chosen = replace(found, sources=()) if own else found
        folder = Workspace(workspace).data_set(name if name is not None else each)
        order = DatasetSpec(chosen, domains, data, files, own, size, seed, folder)
        tasks = _tasks(order)
        more = extras(chosen, tasks, workspace, author, layout)
        if not as_json:
            more.show()
        made = _prepare(order, tasks, more, indexes)
        if as_json:
            print(json.dumps({**made.as_json(), **more.as_json()}, ensure_ascii=False))
        else:
            _say(made)


@dataclass(frozen=True)
class DatasetSpec:
    """What one data set is made of; `own` leaves the tasks out that come from elsewhere."""

    domain: Domain
    domains: Mapping[str, Domain]
    mirror: Path | None
    files: Sequence[Path]
    own: bool
    size: int | None
    seed: int
    folder: Path


def prepare_dataset(
    order: DatasetSpec, workspace: Path, indexes: BenchmarkIndexes
) -> PreparedDataset:
    """Make a data set of what a domain declares, with nothing written for it."""
    tasks = _tasks(order)
    more = extras(order.domain, tasks, workspace, None, None)
    return _prepare(order, tasks, more, indexes)


def _prepare(
    order: DatasetSpec, tasks: Sequence[Task], more: SyntheticRows, indexes: BenchmarkIndexes
) -> PreparedDataset:
    from finetune.data.prepare import prepare_rows as write

    rows = [*_rows(order, tasks), *more.rows]
    name = order.domain.name
    if not rows:
        raise Misuse(f"domain `{name}` has nothing to learn from", "give rows: `--file PATH`")
    made = write(
        name,
        rows,
        size=order.size,
        seed=order.seed,
        benchmark=indexes.of(order),
        folder=order.folder,
    )
    more.keep(made.path)
    return made


class BenchmarkIndexes:
    """Indexes of the questions that training must not see; the last one is kept for reuse."""

    def __init__(self) -> None:
        self._names: tuple[str, ...] | None = None
        self._index: QuestionIndex

    def of(self, order: DatasetSpec) -> QuestionIndex:
        """The index of all questions at hand; a note names the tasks that are missing."""
        from domainlift.text.contamination import QuestionIndex
        from finetune.data.question_rows import reported_questions

        names = _reported(order)
        if names != self._names:
            questions, missing = reported_questions(names, order.domains, order.mirror)
            _note(f"not compared with what is missing: {what}" for what in missing)
            self._names, self._index = names, QuestionIndex(questions, short=True)
        return self._index


def _reported(order: DatasetSpec) -> tuple[str, ...]:
    """The tasks of which some claim may be made."""
    from benchmarks.runs.suites import load_suite
    from benchmarks.tasks.registry import task_names

    own = [name for name in task_names(order.domains) if name.startswith("own:")]
    if order.own:
        return tuple(own)
    if order.mirror is None:
        return tuple(dict.fromkeys([*own, *order.domain.tasks]))
    # A benchmark outside the suites is not fetched for this, but checked where it is mirrored.
    mirrored = [name for name in task_names(order.domains) if (order.mirror / name).is_dir()]
    return tuple(dict.fromkeys([*own, *load_suite("full", order.domains).tasks, *mirrored]))


@data.command("check")
def check_command(
    file: Annotated[Path, typer.Argument(help="A file of rows.")], as_json: Json = False
) -> None:
    """Say per line what is wrong with a file of training rows.

    Example: bench data check notes.jsonl
    """
    from finetune.data.formats import check_rows as look
    from reports.terminal import printable

    problems = look(file)
    if as_json:
        rows = [{"line": each.line, "what": each.what} for each in problems]
        print(json.dumps({"file": str(file), "problems": rows}, ensure_ascii=False))
    else:
        for each in problems:
            print(printable(f"{file}:{each.line}: {each.what}"))
        print(f"{len(problems)} problems" if problems else "no problems")
    if problems:
        raise typer.Exit(1)


def _tasks(order: DatasetSpec) -> list[Task]:
    """The tasks that have questions to learn from; what is not at hand is told."""
    from finetune.data.question_rows import training_tasks

    names = order.domain.tasks
    listed = tuple(name for name in names if not order.own or name.startswith("own:"))
    asked = replace(order.domain, tasks=listed)
    tasks, missing = training_tasks(asked, order.domains, order.mirror)
    _note(missing)
    return tasks


def _rows(order: DatasetSpec, tasks: Sequence[Task]) -> Iterator[Row]:
    from finetune.data.formats import read_training_rows
    from finetune.data.question_rows import renderer
    from finetune.data.sources.questions import question_rows
    from rag.corpus.source_files import own_licence

    licence = own_licence(order.domain)
    render: Render | None = None
    for task in tasks:
        render = renderer(task)
        yield from question_rows(task.questions, render, licence=licence)
    if not order.own:
        yield from _document_rows(order.domain, order.mirror)
    for path in order.files:
        if render is None:
            yield from read_training_rows(path, order.domain.name)
        else:
            yield from read_training_rows(path, order.domain.name, render=render)


def _document_rows(domain: Domain, mirror: Path | None) -> Iterable[Row]:
    """The declared sources turned into questions; what is not at hand is told."""
    from finetune.data.sources.questions import document_rows
    from rag.corpus.documents import load_documents
    from rag.corpus.source_files import find_files

    found = find_files(domain.sources, folder=domain.folder, data=mirror)
    loaded = load_documents(found.files)
    _note([*found.missing, *(f"`{label}` is left out: {why}" for label, why in loaded.refused)])
    return document_rows(loaded.documents, domain.name, kinds=_KINDS) if loaded.documents else ()


def _note(lines: Iterable[str]) -> None:
    from reports.terminal import printable

    for line in lines:
        print(f"note: {printable(line)}", file=sys.stderr)


def _say(made: PreparedDataset) -> None:
    print(
        f"{made.domain}: {made.train:,} rows to train on, {made.validation:,} for validation, "
        f"{made.held_out:,} held out; {made.duplicates:,} copies and {made.leaked:,} leaks removed"
    )
    print(f"{made.path} (sha256 {made.sha256[:16]})")
