"""Builder of a domain's training data: its questions, its documents, and files of the user."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.runs.suites import load_suite
from benchmarks.tasks.base import Task
from benchmarks.tasks.registry import is_own, task_names
from domainlift.activity import activity
from domainlift.errors import Misuse
from domainlift.text.contamination import QuestionIndex
from finetune.data.cleaning import clean_row, reject_reason
from finetune.data.formats import read_training_rows
from finetune.data.prepare import PreparedDataset, prepare_rows, split_of
from finetune.data.rows import Row
from finetune.data.sources.documents import document_rows
from finetune.data.sources.questions import question_rows, reported_questions, training_tasks
from finetune.synthetic.from_knowledge_base import SyntheticRows
from knowledge_bases.domains import Domain
from rag.corpus.documents import load_documents
from rag.corpus.source_files import find_files, own_licence

#: Called with a sentence about something that is missing or left out.
OnNote = Callable[[str], None]


@dataclass(frozen=True)
class DatasetSpec:
    """Contents of a data set; with `own`, tasks and sources from elsewhere are left out.

    `rows` are those that were made already: of traces.
    """

    domain: Domain
    domains: Mapping[str, Domain]
    folder: Path
    mirror: Path | None = None
    files: Sequence[Path] = ()
    own: bool = False
    size: int | None = None
    seed: int = 0
    rows: Sequence[Row] = ()


def build_dataset(
    spec: DatasetSpec,
    tasks: Sequence[Task],
    indexes: BenchmarkIndexes,
    on_note: OnNote,
    synthetic: SyntheticRows | None = None,
) -> PreparedDataset:
    """Write the data set of a domain; Misuse where there is nothing to learn from.

    `tasks` are those of `tasks_to_learn`; `synthetic` rows are added.
    """
    name = spec.domain.name
    with activity(f"making training rows of {name}"):
        rows = [*_rows(spec, tasks, on_note), *(synthetic.rows if synthetic is not None else ())]
    if not rows:
        raise nothing_to_learn(name)
    with activity(f"comparing rows of {name} with each other and with questions of benchmarks"):
        made = prepare_rows(
            name,
            rows,
            size=spec.size,
            seed=spec.seed,
            benchmark=indexes.of(spec),
            folder=spec.folder,
        )
    if synthetic is not None:
        synthetic.write_provenance(made.path)
    return made


def nothing_to_learn(domain: str) -> Misuse:
    """The error of a domain without any row."""
    return Misuse(
        f"domain `{domain}` has nothing to learn from",
        f"give rows: `bench data prepare {domain} --file PATH`",
    )


def draft_rows(spec: DatasetSpec, tasks: Sequence[Task], on_note: OnNote) -> list[Row]:
    """The training rows without writing them, in seconds: an upper bound.

    They are not compared with each other, but for equal ones, nor with questions of benchmarks.
    """
    cleaned = map(clean_row, _rows(spec, tasks, on_note))
    rows = {row.id: row for row in cleaned if not reject_reason(row)}
    return [row for row in rows.values() if split_of(row) == "train"]


def tasks_to_learn(spec: DatasetSpec, on_note: OnNote) -> list[Task]:
    """The domain's tasks that have a training split; one note where others cannot be loaded."""
    names = spec.domain.tasks
    wanted = tuple(name for name in names if not spec.own or is_own(name))
    tasks, missing = training_tasks(replace(spec.domain, tasks=wanted), spec.domains, spec.mirror)
    if missing:
        others = f"; {len(missing) - 1} more of {spec.domain.name} neither" if missing[1:] else ""
        on_note(f"{missing[0]}{others}")
    return tasks


class BenchmarkIndexes:
    """Indexes of the questions that training must not see; the last one is kept for reuse."""

    def __init__(self, on_note: OnNote) -> None:
        self._on_note = on_note
        self._names: tuple[str, ...] | None = None
        self._index: QuestionIndex

    def of(self, spec: DatasetSpec) -> QuestionIndex:
        """The index of all questions at hand; a note names the tasks that are missing."""
        names = _reported_tasks(spec)
        if names != self._names:
            questions, missing = reported_questions(names, spec.domains, spec.mirror)
            for task in missing:
                self._on_note(f"not compared with what is missing: {task}")
            self._names, self._index = names, QuestionIndex(questions, short=True)
        return self._index


def _reported_tasks(spec: DatasetSpec) -> tuple[str, ...]:
    """The tasks on which a result may be reported."""
    every = task_names(spec.domains)
    own = [name for name in (*every, *spec.domain.tasks) if is_own(name)]
    if spec.own:
        return tuple(dict.fromkeys(own))
    if spec.mirror is None:
        return tuple(dict.fromkeys([*own, *spec.domain.tasks]))
    # A benchmark outside the suites is not fetched for this, but checked where it is mirrored.
    mirrored = [name for name in every if (spec.mirror / name).is_dir()]
    return tuple(dict.fromkeys([*own, *load_suite("full", spec.domains).tasks, *mirrored]))


def _rows(spec: DatasetSpec, tasks: Sequence[Task], on_note: OnNote) -> Iterator[Row]:
    licence = own_licence(spec.domain)
    for task in tasks:
        yield from question_rows(task, licence=licence)
    if not spec.own:
        yield from _document_rows(spec, on_note)
    yield from spec.rows
    for path in spec.files:
        yield from read_training_rows(path, spec.domain.name, task=tasks[-1] if tasks else None)


def _document_rows(spec: DatasetSpec, on_note: OnNote) -> Sequence[Row]:
    """Rows made of the sources that a domain declares."""
    domain = spec.domain
    sources = find_files(domain.sources, folder=domain.folder, data=spec.mirror)
    loaded = load_documents(sources.files)
    refused = [f"`{label}` is left out: {why}" for label, why in loaded.refused]
    for note in (*sources.missing, *refused):
        on_note(note)
    return document_rows(loaded.documents, domain.name) if loaded.documents else []
