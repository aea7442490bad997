"""What lifts a domain: its knowledge base and its adapter, made where they are missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domainlift.errors import BenchError, Interrupted
from domainlift.text.display import printable
from domainlift.workspace import Workspace

if TYPE_CHECKING:
    from engines.base import Engine
    from ensemble.plan import DomainTreatment
    from finetune.adapters.registry import Adapter
    from finetune.data.build_dataset import BenchmarkIndexes
    from finetune.data.prepare import PreparedDataset
    from finetune.jobs import TrainingJob
    from finetune.train_adapter import TrainingResult
    from improve.load_model import ModelSpec
    from improve.score import RunOptions
    from knowledge_bases.domains import Domain


class LazyEngine:
    """The engine that answers: opened when it is needed, and dropped while others need the room."""

    def __init__(self, loading: ModelSpec) -> None:
        self.loading = loading
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The open engine."""
        from engines.registry import EngineOptions, open_engine

        if self._engine is None:
            how = self.loading
            self._engine = open_engine(how.model, EngineOptions(how.device, how.dtype))
        return self._engine

    def drop(self) -> None:
        """Let go of it, and of the memory of a model in this process."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None


@dataclass(frozen=True)
class TreatmentBuilder:
    """Makes knowledge bases and adapters of domains; what cannot be made is noted."""

    domains: dict[str, Domain]
    place: RunOptions
    own: bool
    notes: list[str]
    change: Sequence[str] = ()

    def build(self, names: Sequence[str]) -> dict[str, DomainTreatment]:
        """The knowledge base of each domain as it is, or built from what the domain declares."""
        from ensemble.plan import DomainTreatment
        from rag.index.store import KnowledgeBaseStore

        store = KnowledgeBaseStore(Workspace(self.place.workspace).knowledge_bases)
        cares = {}
        for name in names:
            if name not in store.names():
                self._build(name)
            if name in store.names():
                cares[name] = DomainTreatment("rag", knowledge_base=store.manifest(name).generation)
        return cares

    def train(
        self, names: Sequence[str], held: LazyEngine, left: float
    ) -> dict[str, DomainTreatment]:
        """An adapter for each domain: the one that was trained in this way, or a new one.

        No training is begun that would end later than in `left` seconds.
        """
        from ensemble.plan import DomainTreatment

        found, jobs = self._known(names, held, left)
        found |= self._trained(jobs, held)
        cares = {}
        for name in (name for name in names if name in found):
            with self._noting(f"adapter for {name}"):
                _check_served(found[name], held)
                adapter = found[name]
                cares[name] = DomainTreatment(
                    "lora", adapter=adapter.name, adapter_digest=adapter.digest
                )
        return cares

    def _build(self, name: str) -> None:
        from bench.commands.kb_build import build_knowledge_base

        with self._noting(f"knowledge base for {name}"):
            report = build_knowledge_base(name, self.domains, self.place.data, self.place.workspace)
            told = f"    {name}: {report.chunks:,} chunks in {report.seconds:.1f} s"
            print(told, file=sys.stderr)

    def _known(
        self, names: Sequence[str], held: LazyEngine, left: float
    ) -> tuple[dict[str, Adapter], dict[str, TrainingJob]]:
        """The adapters that are there, and the trainings that are left to do in the time."""
        from finetune.data.build_dataset import BenchmarkIndexes
        from finetune.train_adapter import find_existing
        from reports.terminal import print_note

        indexes = BenchmarkIndexes(print_note)
        found: dict[str, Adapter] = {}
        jobs: dict[str, TrainingJob] = {}
        for name in names:
            with self._noting(f"adapter for {name}"):
                self._prepare(name, indexes)
                job = training_job(name, self.domains, self.place, self.own, self.change)
                info = held.engine.info
                before = find_existing(job, info.model, info.digest)
                if before is not None:
                    print(f"    {name}: {before.name} was trained so before", file=sys.stderr)
                    found[name] = before
                    continue
                takes = 0.0 if left == float("inf") else _seconds(job, held.loading)
                if takes > left:
                    self._note(_too_late(name, takes, left))
                    continue
                left -= takes
                jobs[name] = job
        return found, jobs

    @contextmanager
    def _noting(self, what: str) -> Iterator[None]:
        """Note what goes wrong with one thing, and go on without it; Ctrl-C ends everything."""
        try:
            yield
        except Interrupted:
            raise
        except BenchError as error:
            self._note(f"no {what}: {_said(error)}")

    def _prepare(self, name: str, indexes: BenchmarkIndexes) -> None:
        """Make training rows, unless there are some already."""
        if not Workspace(self.place.workspace).data_set(name).is_dir():
            made = make_rows(name, self.domains, self.place, self.own, indexes)
            print(f"    {name}: {made.train:,} rows to train on", file=sys.stderr)

    def _trained(self, jobs: Mapping[str, TrainingJob], held: LazyEngine) -> dict[str, Adapter]:
        """Train what is left: in one pass where there are several and the method allows it."""
        from finetune.adapters.registry import AdapterRegistry
        from finetune.train_adapter import train_adapter
        from improve.load_model import load_trainable
        from reports.training_progress import training_progress

        made: list[TrainingResult] = []
        if jobs:
            held.drop()
        if len(jobs) > 1 and _fit_together(jobs):
            with self._noting(f"adapter for {', '.join(jobs)}"):
                made += self._together(jobs, held)
        else:
            for name, job in jobs.items():
                with self._noting(f"adapter for {name}"):
                    engine = load_trainable(held.loading, job.settings)
                    with training_progress() as view:
                        on_validation = view.on_validation(job.name)
                        made.append(train_adapter(job, engine, view.on_progress, on_validation))
        known = AdapterRegistry(Workspace(self.place.workspace).adapters)
        return {each.name: known.open(f"{each.name}/{each.version}") for each in made}

    def _together(
        self, jobs: Mapping[str, TrainingJob], held: LazyEngine
    ) -> Sequence[TrainingResult]:
        from finetune.train_jointly import train_adapters
        from improve.load_model import load_trainable
        from reports.training_progress import training_progress

        trainings = list(jobs.values())
        engine = load_trainable(held.loading, trainings[0].settings)
        with training_progress() as view:
            done = train_adapters(trainings, engine, view.on_progress, view.on_validation)
        for name, error in done.errors.items():
            self._note(f"no adapter for {name}: {_said(error)}")
        return done.made

    def _note(self, text: str) -> None:
        self.notes.append(text)
        print(f"note: {printable(text)}", file=sys.stderr)


def training_job(
    name: str,
    domains: Mapping[str, Domain],
    place: RunOptions,
    own: bool,
    change: Sequence[str] = (),
) -> TrainingJob:
    """The training of one domain with the settings of the house, but for what the user changed."""
    from finetune.data.recipe import one_domain
    from finetune.jobs import TrainingJob, training_arguments

    recipe = one_domain(name)
    settings = training_arguments(recipe, change)
    return TrainingJob(name, recipe, settings, place.workspace, domains, {}, place.data, own)


def make_rows(
    name: str,
    domains: Mapping[str, Domain],
    place: RunOptions,
    own: bool,
    indexes: BenchmarkIndexes,
) -> PreparedDataset:
    """Make the training rows of a domain from what it declares; BenchError where that is nothing.

    With `own`, only its own questions are turned into rows.
    """
    from finetune.data.build_dataset import DatasetSpec, build_dataset, tasks_to_learn
    from reports.terminal import print_note

    folder = Workspace(place.workspace).data_set(name)
    spec = DatasetSpec(domains[name], domains, folder, place.data, own=own)
    return build_dataset(spec, tasks_to_learn(spec, print_note), indexes, print_note)


def _fit_together(jobs: Mapping[str, TrainingJob]) -> bool:
    from finetune.multi_adapter.loop import refuse_unfit

    try:
        refuse_unfit(next(iter(jobs.values())).settings)
    except BenchError:
        return False
    return True


def _seconds(job: TrainingJob, loading: ModelSpec) -> float:
    """How long a training will take."""
    from finetune.dry_run import dry_run

    return dry_run(job, loading.model, loading.device, loading.dtype).prediction.seconds


def _said(error: BenchError) -> str:
    return f"{error.what}; {error.hint}" if error.hint is not None else error.what


def _too_late(name: str, takes: float, left: float) -> str:
    return (
        f"no adapter for {name}: its training would take {takes / 60:.0f} minutes, "
        f"and {left / 60:.0f} are left"
    )


def _check_served(adapter: Adapter, held: LazyEngine) -> None:
    """Over a server, an adapter answers only once the server has it."""
    from engines.base import AdapterEngine
    from engines.registry import is_served
    from finetune.adapters.registry import load_adapter_into

    if is_served(held.loading.model) and isinstance(held.engine, AdapterEngine):
        load_adapter_into(held.engine, adapter)
