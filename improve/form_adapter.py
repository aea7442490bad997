"""Form adapter: one adapter for all treated domains, trained on rows of the others.

A model may know an answer and not know how to say it. An adapter that saw no row of a domain has
learned nothing of it: what it gains there, the form of answers gives. It is a treatment, as it
serves all domains at once, and the control of the others: a domain's own adapter counts for what
it gains beyond.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import TYPE_CHECKING

from domainlift.activity import activity
from domainlift.workspace import Workspace
from finetune.data.build_dataset import BenchmarkIndexes
from finetune.data.prepare import prepare_rows
from finetune.data.recipe import one_domain
from finetune.data.sources.questions import question_rows
from finetune.jobs import TrainingJob, training_arguments
from finetune.train_adapter import find_existing
from improve.train import (
    adapter_treatment,
    dataset_spec,
    tasks_in_form,
    train_alone,
)
from rag.corpus.source_files import own_licence
from reports.terminal import print_note

if TYPE_CHECKING:
    from ensemble.plan import DomainTreatment
    from finetune.data.rows import Row
    from improve.context import ImproveContext
    from improve.load_model import LazyEngine
    from improve.notes import Notes

#: Name of the adapter.
_NAME = "answer-form"
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
        job = _job(context, names, notes) if names else None
        if job is not None:
            info = lazy.engine.info
            adapter = find_existing(job, info.model, info.digest)
            if adapter is None:
                lazy.close()
                adapter = train_alone(job, lazy, notes)
            treatments = dict.fromkeys(names, adapter_treatment(adapter, lazy))
    return treatments


def _job(context: ImproveContext, names: Sequence[str], notes: Notes) -> TrainingJob | None:
    """The training on rows of all domains but these, which are prepared."""
    others = [name for name in context.domains if name not in names]
    rows = [row for name in others for row in _rows(context, name, _ROWS // len(others))]
    if not rows:
        notes.add("no control of form: no other domain has training questions")
        return None
    digest = hashlib.sha256("".join(row.id for row in rows).encode()).hexdigest()[:8]
    workspace = context.run_options.workspace
    folder = Workspace(workspace).data_set(f"{_NAME}-{digest}")
    if not folder.is_dir():
        index = BenchmarkIndexes(print_note).of(dataset_spec(context, others[0]))
        prepare_rows(_NAME, rows, benchmark=index, folder=folder)
    recipe = one_domain(_NAME, replay=0.0)
    changes = (*context.options.change, f"epochs={_PASSES}", "eval_every=0")
    settings = training_arguments(recipe, changes)
    return TrainingJob(_NAME, recipe, settings, workspace, data={_NAME: folder.name})


def _rows(context: ImproveContext, name: str, size: int) -> list[Row]:
    spec = dataset_spec(context, name)
    tasks = tasks_in_form(context, spec)
    licence = own_licence(spec.domain)
    rows = (question_rows(task, size=size, licence=licence) for task in tasks)
    return [row for own in rows for row in own][:size]
