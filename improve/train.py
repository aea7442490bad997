"""Stage "train": an adapter per domain, found or trained within the time that is left."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from benchmarks.tasks.base import Task
from domainlift.activity import activity
from domainlift.files import sha256, write_json
from domainlift.workspace import Workspace
from engines.base import AdapterEngine, Mode
from engines.local.loading import need_local
from engines.registry import is_served
from ensemble.plan import DomainTreatment
from finetune.adapters.registry import Adapter, AdapterRegistry, load_adapter_into
from finetune.data.build_dataset import (
    BenchmarkIndexes,
    DatasetSpec,
    OnNote,
    build_dataset,
    draft_rows,
    nothing_to_learn,
    tasks_to_learn,
)
from finetune.data.formats import read_training_rows
from finetune.data.prepare import PreparedDataset, prepare_rows
from finetune.data.recipe import Recipe
from finetune.data.rows import Row
from finetune.find_adapter import find_existing
from finetune.jobs import TrainingJob, in_mode, training_arguments
from improve.context import ImproveContext
from improve.exam.rows import as_chat, exam_rows
from improve.load_model import LazyEngine
from improve.material import MADE_OF
from improve.notes import Notes
from rag.library import library
from reports.terminal import print_note

#: Passes over the rows of an exam, which are long and ask each fact in several wordings.
_EXAM_PASSES = 6


def train_adapters(
    context: ImproveContext,
    names: Sequence[str],
    lazy: LazyEngine,
    notes: Notes,
) -> dict[str, DomainTreatment]:
    """Find the adapter of each domain that was trained with these rows and settings, or train it.

    What cannot be trained is noted.
    """
    adapters, jobs = _existing(context, names, lazy, notes)
    adapters |= _train(jobs, lazy, notes)
    treatments = {}
    for name in (name for name in names if name in adapters):
        with notes.instead_of(f"adapter for {name}"):
            treatments[name] = adapter_treatment(adapters[name], lazy)
    return treatments


def adapter_treatment(adapter: Adapter, lazy: LazyEngine) -> DomainTreatment:
    """The treatment by an adapter, which is asked as it was trained: without examples.

    Over a server, it answers only once the server has it.
    """
    if is_served(lazy.spec.model) and isinstance(lazy.engine, AdapterEngine):
        load_adapter_into(lazy.engine, adapter)
    digest = adapter.digest
    return DomainTreatment("lora", adapter=adapter.name, adapter_digest=digest, examples=False)


def training_job(context: ImproveContext, name: str) -> TrainingJob:
    """The training of one domain: default settings, but for what the user changed."""
    recipe, options = Recipe({name: 1.0}), context.options
    of_exam = options.exam is not None and options.exam.name == name
    changes = (f"epochs={_EXAM_PASSES}",) if of_exam else ()
    settings = training_arguments(recipe, (*changes, *options.change))
    return TrainingJob(
        name,
        recipe,
        settings,
        context.run_options.workspace,
        context.domains,
        {name: dataset_spec(context, name).folder.name},
        context.run_options.data,
        options.own,
        settings.budget(options.minutes, options.rows),
        context.strengths,
        changed_mode(context, name),
    )


def make_rows(context: ImproveContext, name: str, indexes: BenchmarkIndexes) -> PreparedDataset:
    """Build the training rows of a domain from what it declares; BenchError where that is nothing.

    With the option `own`, only its own questions are turned into rows. Those of an exam are made
    as it is served.
    """
    spec = dataset_spec(context, name)
    if spec.folder.is_dir():  # of other questions
        shutil.rmtree(spec.folder)
    rows = rows_of_exam(context, name)
    if rows is not None:
        index = indexes.of(spec)
        made = prepare_rows(name, rows, benchmark=index, folder=spec.folder, all_trained=True)
    else:
        made = build_dataset(spec, tasks_in_form(context, spec), indexes, print_note)
    write_json(spec.folder / MADE_OF, _made_of(context, spec))
    return made


def is_prepared(context: ImproveContext, name: str) -> bool:
    """Whether a domain has its training rows: a person's, or those of its questions of today."""
    spec = dataset_spec(context, name)
    try:
        made_of = json.loads((spec.folder / MADE_OF).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return spec.folder.is_dir()
    except ValueError:
        return False
    return bool(made_of == _made_of(context, spec))


def _made_of(context: ImproveContext, spec: DatasetSpec) -> dict[str, str]:
    files = {str(path): sha256(path) for path in spec.files}
    return files | {task.name: task.digest for task in tasks_in_form(context, spec)}


def rows_not_prepared(context: ImproveContext, name: str) -> dict[str, list[Row]] | None:
    """About the rows that `make_rows` would write, by domain; None where they are written."""
    spec = dataset_spec(context, name)
    if is_prepared(context, name):
        return None
    with activity(f"making training rows of {name}"):
        rows = rows_of_exam(context, name)
        if rows is None:
            rows = draft_rows(spec, tasks_in_form(context, spec), print_note)
    if not rows:
        raise nothing_to_learn(name)
    return {name: rows}


def rows_of_exam(context: ImproveContext, name: str) -> list[Row] | None:
    """The rows of the exam of this domain, and of its files, None where it has no exam."""
    options, chat = context.options, context.options.exam_in_chat
    if options.exam is None or options.exam.name != name:
        return None
    files = dataset_spec(context, name).files
    given = [row for path in files for row in read_training_rows(path, name)]
    with library(context.run_options.workspace) as bases:
        made = exam_rows(options.exam, bases.open(name).search, chat=chat)
    return [*made, *(as_chat(row) if chat else row for row in given)]


def dataset_spec(context: ImproveContext, name: str) -> DatasetSpec:
    """What the data set of a domain is made of; it is another one where questions are reworded."""
    options, mode, exam = context.run_options, changed_mode(context, name), context.options.exam
    data_set = name if mode is None else f"{name}-{mode.value}"
    if exam is not None and exam.name == name:
        form = "chat" if context.options.exam_in_chat else "text"
        data_set = f"{name}-{form}-{exam.digest[:8]}"
    return DatasetSpec(
        context.domains[name],
        context.domains,
        Workspace(options.workspace).data_set(data_set),
        options.data,
        rows_of_feedback(options.workspace, name),
        context.options.own,
    )


def rows_of_feedback(workspace: Path, name: str) -> tuple[Path, ...]:
    """The file of rows that were made of accepted feedback, where there is one."""
    path = Workspace(workspace).feedback_rows(name)
    return (path,) if path.is_file() else ()


def tasks_in_form(
    context: ImproveContext, spec: DatasetSpec, on_note: OnNote = print_note
) -> list[Task]:
    """The tasks of a data set, asked as everything is asked."""
    mode = changed_mode(context, spec.domain.name)
    return [in_mode(task, mode) for task in tasks_to_learn(spec, on_note)]


def changed_mode(context: ImproveContext, domain: str) -> Mode | None:
    """The mode in which everything is asked, where it is not that of the domain's tasks."""
    form = context.settings.form
    own = {
        task.mode
        for task in context.split.selection
        if any(question.domain == domain for question in task.questions)
    }
    return None if form is None or own == {form.mode} else form.mode


def _existing(
    context: ImproveContext,
    names: Sequence[str],
    lazy: LazyEngine,
    notes: Notes,
) -> tuple[dict[str, Adapter], dict[str, TrainingJob]]:
    """The adapters that exist, and the trainings that are left to do."""
    indexes = BenchmarkIndexes(print_note)
    adapters: dict[str, Adapter] = {}
    jobs: dict[str, TrainingJob] = {}
    for name in names:
        with notes.instead_of(f"adapter for {name}"):
            if not is_prepared(context, name):
                dataset = make_rows(context, name, indexes)
                print(f"    {name}: {dataset.train:,} rows to train on", file=sys.stderr)
            job = training_job(context, name)
            info = lazy.engine.info
            existing = find_existing(job, info.model, info.digest)
            if existing is not None:
                print(f"    {name}: {existing.name} was trained so before", file=sys.stderr)
                adapters[name] = existing
                continue
            jobs[name] = job
    return adapters, jobs


def _train(jobs: Mapping[str, TrainingJob], lazy: LazyEngine, notes: Notes) -> dict[str, Adapter]:
    if jobs:
        lazy.close()
    adapters: dict[str, Adapter] = {}
    for name, job in jobs.items():
        with notes.instead_of(f"adapter for {name}"):
            adapters[name] = train_alone(job, lazy, notes)
    return adapters


def train_alone(job: TrainingJob, lazy: LazyEngine, notes: Notes) -> Adapter:
    """Train one adapter while its progress is shown."""
    need_local()
    from improve.training_run import train_with_progress

    made = train_with_progress(job, lazy.spec)
    for line in made.plan.lines():
        notes.add(f"adapter for {made.name}: {line}")
    return AdapterRegistry(Workspace(job.workspace).adapters).open(f"{made.name}/{made.version}")
