"""Form adapter: one adapter for all treated domains, trained on rows of the others.

A model may know an answer and not know how to say it. An adapter that saw no row of a domain has
learned nothing of it: what it gains there, the form of answers gives. It is a treatment, as it
serves all domains at once, and the control of the others: a domain's own adapter counts for what
it gains beyond.

Where every domain with training questions is treated, a placebo is the control: it is trained on
the domains' own questions, each with the answer of another one, and is never chosen.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from domainlift.activity import activity
from domainlift.sampling import hash_order
from domainlift.workspace import Workspace
from ensemble.plan import DomainTreatment
from finetune.data.build_dataset import BenchmarkIndexes, OnNote
from finetune.data.prepare import prepare_rows
from finetune.data.recipe import Recipe
from finetune.data.rows import Row
from finetune.data.sources.questions import question_rows
from finetune.find_adapter import find_existing
from finetune.jobs import TrainingJob, training_arguments
from improve.context import ImproveContext
from improve.load_model import LazyEngine
from improve.notes import Notes
from improve.train import adapter_treatment, dataset_spec, tasks_in_form, train_alone
from rag.corpus.source_files import own_licence
from reports.terminal import print_note

#: Name of the adapter, and of the one that learns answers of other questions.
_NAME, _PLACEBO = "answer-form", "placebo"
#: Rows of other domains at most, and passes over them: form is learned within some steps.
_ROWS, _PASSES = 256, 2


def train_form_adapter(
    context: ImproveContext, names: Sequence[str], lazy: LazyEngine, notes: Notes
) -> dict[str, DomainTreatment]:
    """Find or train the form adapter; the treatment of each named domain by it.

    None have one where no other domain has training questions, which is noted.
    """
    treatments: dict[str, DomainTreatment] = {}
    with notes.instead_of("control of form"), activity("training the control of form"):
        job = form_job(context, names, notes) if names else None
        if job is not None:
            info = lazy.engine.info
            adapter = find_existing(job, info.model, info.digest)
            if adapter is None:
                lazy.close()
                adapter = train_alone(job, lazy, notes)
            treatments = dict.fromkeys(names, adapter_treatment(adapter, lazy))
    return treatments


def is_placebo(treatment: DomainTreatment) -> bool:
    """Whether an adapter was trained on answers of other questions."""
    return treatment.adapter.partition("@")[0] == _PLACEBO


def form_job(context: ImproveContext, names: Sequence[str], notes: Notes) -> TrainingJob | None:
    """The training on rows of all domains but these, which are prepared; else of the placebo."""
    others = [name for name in context.domains if name not in names]
    rows, adapter = _rows(context, others), _NAME
    if not rows:
        rows, adapter, others = _with_answers_of_others(_rows(context, names)), _PLACEBO, [*names]
        notes.add(
            "no other domain has training questions: the control of form is a placebo, trained on "
            "the treated domains' questions with the answers of other questions"
            if rows
            else "no control of form: no domain has training questions"
        )
    if not rows:
        return None
    digest = hashlib.sha256("".join(row.id for row in rows).encode()).hexdigest()[:8]
    workspace = context.run_options.workspace
    folder = Workspace(workspace).data_set(f"{adapter}-{digest}")
    if not folder.is_dir():
        index = BenchmarkIndexes(print_note).of(dataset_spec(context, others[0]))
        prepare_rows(adapter, rows, benchmark=index, folder=folder)
    recipe = Recipe({adapter: 1.0}, replay=0.0)
    changes = (*context.options.change, f"epochs={_PASSES}", "eval_every=0")
    settings = training_arguments(recipe, changes)
    return TrainingJob(adapter, recipe, settings, workspace, data={adapter: folder.name})


def _rows(context: ImproveContext, names: Sequence[str]) -> list[Row]:
    """At most `_ROWS` rows, as many of each domain; one note on what is not at hand."""
    missing: list[str] = []
    size = _ROWS // max(1, len(names))
    rows = [row for name in names for row in _rows_of(context, name, size, missing.append)]
    if missing:
        others = f", and so for {len(missing) - 1} more domains" if missing[1:] else ""
        print_note(f"the control of form goes without what is missing: {missing[0]}{others}")
    return rows


def _rows_of(context: ImproveContext, name: str, size: int, on_note: OnNote) -> list[Row]:
    spec = dataset_spec(context, name)
    tasks = tasks_in_form(context, spec, on_note)
    licence = own_licence(spec.domain)
    rows = (question_rows(task, size=size, licence=licence) for task in tasks)
    return [row for own in rows for row in own][:size]


def _with_answers_of_others(rows: Sequence[Row]) -> list[Row]:
    """Every row with the completion of the next one, in an order of chance."""
    mixed = sorted(rows, key=lambda row: hash_order(row.id))
    answers = [row.completion for row in mixed[1:] + mixed[:1]]
    return [replace(row, completion=answer) for row, answer in zip(mixed, answers, strict=True)]
