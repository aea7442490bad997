"""`bench improve --dry-run`: what will happen, what it takes, and what is missing for it."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, TypeVar

from domainlift.errors import BenchError, Misuse
from domainlift.workspace import Workspace
from reports.forecast import Forecast, Missing, Stage

if TYPE_CHECKING:
    from benchmarks.tasks.base import Task
    from finetune.data.build_dataset import BenchmarkIndexes
    from finetune.dry_run import DryRun
    from improve.context import ImproveContext
    from improve.load_model import ModelSpec
    from improve.train import LazyEngine
    from rag.corpus.source_files import Found

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

    missing: list[Missing] = field(default_factory=list)

    def at(self, make: Callable[[], _Made]) -> _Made | None:
        try:
            return make()
        except BenchError as error:
            self.note(error)
            return None

    def note(self, error: BenchError) -> None:
        found = Missing(error.what, error.hint if error.hint is not None else "")
        if found not in self.missing:
            self.missing.append(found)


def forecast(held: LazyEngine, open_scene: Callable[[], ImproveContext]) -> Forecast:
    """Look at everything that the loop will need, and change nothing."""
    look = _MissingItems()
    _packages(look)
    model = held.loading.model
    known = _model(look, held)
    try:
        scene = open_scene()
    except Misuse:  # nothing is missing: the command is wrong
        raise
    except BenchError as error:
        look.note(error)
        return Forecast(model, [], look.missing)
    names = _names(scene)
    pace = _pace(scene, model)
    sizes = _Sizes.of(scene, names)
    trainings = _trainings(scene, names, held, look) if known else ()
    stages = [
        *_asking(sizes, names, pace),
        *_bases(scene, names, look),
        *trainings,
        *_proving(sizes, len(names), pace),
    ]
    return Forecast(model, stages, look.missing)


def _packages(look: _MissingItems) -> None:
    for name, extra in _PACKAGES.items():
        if find_spec(name) is None:
            hint = f'`pip install "domainlift[{extra}]"`'
            look.missing.append(Missing(f"package `{name}`", hint))


def _model(look: _MissingItems, held: LazyEngine) -> bool:
    """Ask a server; of the weights only the configuration is read. Say whether that is there."""
    from engines.local.loading import load_config_and_tokenizer
    from engines.registry import is_served, source

    model = held.loading.model
    if is_served(model):
        look.at(lambda: held.engine.info)
    return look.at(lambda: load_config_and_tokenizer(source(model), device="cpu")) is not None


def _names(scene: ImproveContext) -> list[str]:
    """The domains that may turn out to be weak: no one knows before the model was asked."""
    if scene.options.only:
        return list(scene.options.only)
    asked = {q.domain for task in scene.split.selection for q in task.questions}
    known = (name for name in sorted(asked) if name in scene.domains)
    return [name for name in known if not scene.domains[name].protected]


@dataclass(frozen=True)
class _Sizes:
    """How many questions are asked: for choosing, of those in what may be treated, at the end."""

    selection: int
    some: int
    held_out: int

    @classmethod
    def of(cls, scene: ImproveContext, names: Sequence[str]) -> _Sizes:
        from improve.context import HELD_OUT, SELECTION

        every = _count(scene.split.selection)
        selection = _at_most(every, scene.limit_of(SELECTION))
        # A limit is spread over the domains by their sizes.
        some = math.ceil(_count(scene.split.selection, names) * selection / every)
        held = _at_most(_count(scene.split.held_out), scene.limit_of(HELD_OUT))
        return cls(selection, some, held)


def _pace(scene: ImproveContext, model: str) -> float | None:
    """Seconds per question in the newest finished run of the bare model, if there is one.

    Other runs of a loop take over most of their answers.
    """
    from benchmarks.runs.store import RunStore
    from benchmarks.treatments.base import BASE_POLICY

    store = RunStore(scene.place.workspace)
    for name in reversed(store.ids()):
        made = store.get(name).manifest
        bare = made.model == model and made.settings.get("treatment") == BASE_POLICY.name
        if bare and made.finished and made.questions and made.seconds:
            return made.seconds / made.questions
    return None


def _asking(sizes: _Sizes, names: list[str], pace: float | None) -> Iterator[Stage]:
    from improve.loop import SAMPLE
    from improve.retrieve import NUMBERS

    first = sizes.selection + min(SAMPLE, sizes.selection)
    yield Stage("baseline", f"{first:,} questions", _times(first, pace))
    # Each with every number of passages; what is missed once more, and with the best passage.
    more = (len(NUMBERS) + 2) * sizes.some
    yield Stage("triage", f"at most {more:,} questions: {_listed(names)}", _times(more, pace))


def _bases(scene: ImproveContext, names: list[str], look: _MissingItems) -> Iterator[Stage]:
    from rag.corpus.source_files import domain_sources
    from rag.index.store import KnowledgeBaseStore

    there = KnowledgeBaseStore(Workspace(scene.place.workspace).knowledge_bases).names()
    without = [n for n in names if n not in there and not domain_sources(scene.domains[n])]
    if without:
        what = f"none for {', '.join(without)}: no sources are declared"
        yield Stage("knowledge base", what, 0.0)
    for name in () if scene.options.skip_rag else names:
        if name in without:
            continue
        if name in there:
            yield Stage("knowledge base", f"{name}: as it is", 0.0)
            continue
        found = look.at(lambda name=name: _files(scene, name))  # type: ignore[misc]
        if found is None:
            continue
        for line in found.missing:
            look.missing.append(Missing(f"{name}: {line}", "`--data FOLDER`, or a connection"))
        size = sum(file.path.stat().st_size for file in found.files if file.path is not None)
        what = f"{name}: {len(found.files):,} files, {size / 1e6:.1f} MB"
        yield Stage("knowledge base", what, disk=_INDEX * size)


def _files(scene: ImproveContext, name: str) -> Found:
    from rag.corpus.source_files import domain_sources, find_files

    domain = scene.domains[name]
    return find_files(domain_sources(domain), folder=domain.folder, data=scene.place.data)


def _trainings(
    scene: ImproveContext, names: list[str], held: LazyEngine, look: _MissingItems
) -> Iterator[Stage]:
    from finetune.data.build_dataset import BenchmarkIndexes
    from reports.terminal import print_note

    indexes = BenchmarkIndexes(print_note)
    for name in () if scene.options.skip_train else names:
        found = look.at(lambda name=name: _rehearsed(scene, name, held.loading, indexes))  # type: ignore[misc]
        if found is not None:
            plan = found.prediction
            what = f"{name}: {found.rows:,} rows, {plan.steps:,} steps on {found.device}"
            # Weights in float32, and of a training under way its two moments.
            disk = 4 * plan.trainable
            yield Stage("training", what, plan.seconds, plan.peak_bytes, disk)


def _rehearsed(
    scene: ImproveContext, name: str, loading: ModelSpec, indexes: BenchmarkIndexes
) -> DryRun:
    """Make the rows aside, and see what training on them takes."""
    from finetune.dry_run import dry_run
    from improve.train import make_rows, training_job

    wishes, place = scene.options, scene.place
    with TemporaryDirectory() as aside:
        if not Workspace(place.workspace).data_set(name).is_dir():
            place = replace(place, workspace=Path(aside))
            make_rows(name, scene.domains, place, wishes.own, indexes)
        job = training_job(name, scene.domains, place, wishes.own, wishes.change)
        return dry_run(job, loading.model, loading.device, loading.dtype)


def _proving(sizes: _Sizes, domains: int, pace: float | None) -> Iterator[Stage]:
    from improve.prove import CONTROLS, SINGLES
    from improve.retrieve import NUMBERS

    # Adapter alone, passages alone, both; and both with every number of passages.
    arms = (3 + len(NUMBERS)) * sizes.some
    yield Stage("selection", f"at most {arms:,} questions", _times(arms, pace))
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
