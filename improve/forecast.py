"""`bench improve --dry-run`: what will happen, what it takes, and what is missing for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, TypeVar

from benchmarks.runs.store import RunStore
from benchmarks.scoring.forms import QUESTIONS, SHOTS
from benchmarks.tasks.base import Task
from benchmarks.treatments.base import BASE_POLICY
from domainlift.activity import activity
from domainlift.errors import BenchError, Misuse
from domainlift.workspace import Workspace
from engines.local.loading import load_config_and_tokenizer, need_local
from engines.registry import is_served, source
from improve.context import HELD_OUT, SELECTION, ImproveContext
from improve.load_model import LazyEngine
from improve.prove import CONTROLS, SINGLES
from improve.retrieve import PASSAGE_COUNTS
from improve.score import RETEST_QUESTIONS
from improve.train import rows_not_prepared, training_job
from rag.corpus.source_files import Found, domain_sources, find_files
from rag.index.store import KnowledgeBaseStore
from reports.improve import Forecast, Missing, Stage

if TYPE_CHECKING:
    from finetune.dry_run import DryRun

_Made = TypeVar("_Made")
#: What each part of the loop imports, and the extra that brings it.
_PACKAGES = {
    "chromadb": "rag",
    "sentence_transformers": "local",
    "torch": "local",
    "peft": "local",
    "sklearn": "rag",
}
#: An index holds texts, vectors and the store of Chroma: so many times the size of the texts.
_INDEX = 8


@dataclass
class _MissingItems:
    """Collects what is missing instead of ending at the first thing."""

    items: list[Missing] = field(default_factory=list)

    def at(self, make: Callable[[], _Made]) -> _Made | None:
        try:
            return make()
        except BenchError as error:
            self.note(error)
            return None

    def note(self, error: BenchError) -> None:
        found = Missing(error.what, error.hint if error.hint is not None else "")
        if found not in self.items:
            self.items.append(found)


def forecast(lazy: LazyEngine, prepare: Callable[[], ImproveContext]) -> Forecast:
    """Look at everything that the loop will need, and change nothing."""
    missing = _MissingItems()
    _packages(missing)
    model = lazy.spec.model
    known = _model(missing, lazy)
    try:
        context = prepare()
    except Misuse:  # nothing is missing: the command is wrong
        raise
    except BenchError as error:
        missing.note(error)
        return Forecast(model, [], missing.items)
    names = _names(context)
    pace = _pace(context, model)
    sizes = _Sizes.of(context, names)
    trainings = _trainings(context, names, lazy, missing) if known else ()
    stages = [
        *_asking(sizes, names, pace),
        *_bases(context, names, missing),
        *trainings,
        *_proving(sizes, len(names), pace),
    ]
    return Forecast(model, stages, missing.items)


def _packages(missing: _MissingItems) -> None:
    for name, extra in _PACKAGES.items():
        if find_spec(name) is None:
            hint = f'`pip install "domainlift[{extra}]"`'
            missing.items.append(Missing(f"package `{name}`", hint))


def _model(missing: _MissingItems, lazy: LazyEngine) -> bool:
    """Ask a server; of the weights only the configuration is read. Say whether that is there."""
    model = lazy.spec.model
    if is_served(model):
        missing.at(lambda: lazy.engine.info)
    return missing.at(lambda: load_config_and_tokenizer(source(model), device="cpu")) is not None


def _names(context: ImproveContext) -> list[str]:
    """The domains that may turn out to be weak: no one knows before the model was asked."""
    if context.options.only:
        return list(context.options.only)
    asked = {q.domain for task in context.split.selection for q in task.questions}
    known = (name for name in sorted(asked) if name in context.domains)
    return [name for name in known if not context.domains[name].protected]


@dataclass(frozen=True)
class _Sizes:
    """How many questions are asked: for choosing, of those in what may be treated, at the end."""

    selection: int
    some: int
    held_out: int

    @classmethod
    def of(cls, context: ImproveContext, names: Sequence[str]) -> _Sizes:

        every = _count(context.split.selection)
        selection = _at_most(every, context.limit_of(SELECTION))
        # A limit is spread over the domains by their sizes.
        some = math.ceil(_count(context.split.selection, names) * selection / every)
        held = _at_most(_count(context.split.held_out), context.limit_of(HELD_OUT))
        return cls(selection, some, held)


def _pace(context: ImproveContext, model: str) -> float | None:
    """Seconds per question in the newest finished run of the bare model, if there is one.

    Other runs of a loop take over most of their answers.
    """
    store = RunStore(context.run_options.workspace)
    for name in reversed(store.ids()):
        made = store.get(name).manifest
        bare = made.model == model and made.settings.get("treatment") == BASE_POLICY.name
        if bare and made.finished and made.questions and made.seconds:
            return made.seconds / made.questions
    return None


def _asking(sizes: _Sizes, names: list[str], pace: float | None) -> Iterator[Stage]:

    tried = (2 * len(SHOTS) + 1) * min(QUESTIONS, sizes.selection)
    # Once more in the best form, should that be another than the tasks' own.
    first = 2 * sizes.selection + min(RETEST_QUESTIONS, sizes.selection) + tried
    yield Stage("baseline", f"at most {first:,} questions", _times(first, pace))
    # Each with every number of passages; what is missed once more, and with the best passage.
    more = (len(PASSAGE_COUNTS) + 2) * sizes.some
    yield Stage("triage", f"at most {more:,} questions: {_listed(names)}", _times(more, pace))


def _bases(context: ImproveContext, names: list[str], missing: _MissingItems) -> Iterator[Stage]:

    there = KnowledgeBaseStore(Workspace(context.run_options.workspace).knowledge_bases).names()
    without = [n for n in names if n not in there and not domain_sources(context.domains[n])]
    if without:
        what = f"none for {', '.join(without)}: no sources are declared"
        yield Stage("knowledge base", what, 0.0)
    for name in () if context.options.skip_rag else names:
        if name in without:
            continue
        if name in there:
            yield Stage("knowledge base", f"{name}: as it is", 0.0)
            continue
        found = missing.at(lambda name=name: _files(context, name))  # type: ignore[misc]
        if found is None:
            continue
        for line in found.missing:
            missing.items.append(Missing(f"{name}: {line}", "`--data FOLDER`, or a connection"))
        size = sum(file.path.stat().st_size for file in found.files if file.path is not None)
        what = f"{name}: {len(found.files):,} files, {size / 1e6:.1f} MB"
        yield Stage("knowledge base", what, disk=_INDEX * size)


def _files(context: ImproveContext, name: str) -> Found:

    domain = context.domains[name]
    return find_files(domain_sources(domain), folder=domain.folder, data=context.run_options.data)


def _trainings(
    context: ImproveContext, names: list[str], lazy: LazyEngine, missing: _MissingItems
) -> Iterator[Stage]:
    if not context.options.skip_train:
        yield Stage("form adapter", "at most 256 rows of the other domains, twice")
    for name in () if context.options.skip_train else names:
        found = missing.at(lambda name=name: _dry_run(context, name, lazy))  # type: ignore[misc]
        if found is not None:
            plan = found.prediction
            left = "".join(f"; {line}" for line in found.plan.lines())
            what = f"{name}: {found.rows:,} rows, {plan.steps:,} steps on {found.device}{left}"
            # Weights in float32, and of a training under way its two moments.
            disk = 4 * plan.trainable
            yield Stage("training", what, plan.seconds, plan.peak_bytes, disk)


def _dry_run(context: ImproveContext, name: str, lazy: LazyEngine) -> DryRun:
    """Predict a training; rows that do not exist yet are made in memory."""
    need_local()
    from finetune.dry_run import dry_run

    spec, job = lazy.spec, training_job(context, name)
    rows = rows_not_prepared(context, name)
    with activity(f"choosing rows of {name}"):
        return dry_run(job, spec.model, spec.device, spec.dtype, rows)


def _proving(sizes: _Sizes, domains: int, pace: float | None) -> Iterator[Stage]:

    # Adapter alone, passages alone, both; and both with every number of passages.
    treatments = (3 + len(PASSAGE_COUNTS)) * sizes.some
    yield Stage("selection", f"at most {treatments:,} questions", _times(treatments, pace))
    yield Stage("router", "keywords from training and validation questions")
    held = sizes.held_out
    # Base and ensemble, three controls, and each single treatment on selection questions.
    single = domains * min(SINGLES, sizes.selection)
    last = 2 * held + 3 * min(CONTROLS, held) + single
    yield Stage("held-out questions", f"at most {last:,} questions", _times(last, pace))


def _at_most(count: int, limit: int | None) -> int:
    return count if limit is None else min(count, limit)


def _count(tasks: Sequence[Task], names: Sequence[str] | None = None) -> int:
    questions = (q for task in tasks for q in task.questions)
    return sum(1 for q in questions if names is None or q.domain in names)


def _times(count: int, pace: float | None) -> float | None:
    return None if pace is None else count * pace


def _listed(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) < 6 else f"{len(names)} domains"
