"""What lifts a domain: its knowledge base and its adapter, made where they are missing."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domainlift.errors import BenchError, Interrupted
from domainlift.workspace import Workspace

if TYPE_CHECKING:
    from bench.commands.data import BenchmarkIndexes
    from engines.base import Engine
    from ensemble.plan import DomainTreatment
    from finetune.adapters.registry import Adapter
    from finetune.data.prepare import PreparedDataset
    from finetune.jobs import TrainingJob
    from finetune.replay_questions import TrainingDomains
    from finetune.train_adapter import TrainingResult
    from improve.load_model import ModelSpec
    from improve.score import RunOptions
    from knowledge_bases.domains import Domain


_Job = tuple["TrainingJob", "TrainingDomains"]


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
    ) -> tuple[dict[str, Adapter], dict[str, _Job]]:
        """The adapters that are there, and the trainings that are left to do in the time."""
        from bench.commands.data import BenchmarkIndexes
        from finetune.train_adapter import find_existing

        indexes = BenchmarkIndexes()
        found: dict[str, Adapter] = {}
        jobs: dict[str, _Job] = {}
        for name in names:
            with self._noting(f"adapter for {name}"):
                self._prepare(name, indexes)
                job = training_job(name, self.domains, self.place, self.own, self.change)
                info = held.engine.info
                before = find_existing(job[0], info.model, info.digest)
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

    def _trained(self, jobs: Mapping[str, _Job], held: LazyEngine) -> dict[str, Adapter]:
        """Train what is left: in one pass where there are several and the method allows it."""
        from bench.commands.train import train_with_progress
        from finetune.adapters.registry import AdapterRegistry

        made: list[TrainingResult] = []
        if jobs:
            held.drop()
        if len(jobs) > 1 and _fit_together(jobs):
            with self._noting(f"adapter for {', '.join(jobs)}"):
                made += self._together(jobs, held)
        else:
            for name, (wish, around) in jobs.items():
                with self._noting(f"adapter for {name}"):
                    made.append(train_with_progress(wish, around, held.loading))
        known = AdapterRegistry(Workspace(self.place.workspace).adapters)
        return {each.name: known.open(f"{each.name}/{each.version}") for each in made}

    def _together(self, jobs: Mapping[str, _Job], held: LazyEngine) -> Sequence[TrainingResult]:
        from bench.commands.train import train_jointly_with_progress

        done = train_jointly_with_progress(list(jobs.values()), held.loading)
        for name, error in done.errors.items():
            self._note(f"no adapter for {name}: {_said(error)}")
        return done.made

    def _note(self, text: str) -> None:
        from reports.terminal import printable

        self.notes.append(text)
        print(f"note: {printable(text)}", file=sys.stderr)


def training_job(
    name: str,
    domains: Mapping[str, Domain],
    place: RunOptions,
    own: bool,
    change: Sequence[str] = (),
) -> tuple[TrainingJob, TrainingDomains]:
    """The training of one domain with the settings of the house, but for what the user changed."""
    from bench.commands.train import settings_of
    from finetune.data.recipe import one_domain
    from finetune.jobs import TrainingJob, training_domains

    recipe = one_domain(name)
    settings = settings_of(recipe, change)
    wish = TrainingJob(name, recipe, settings, place.workspace, {}, place.data, own)
    return wish, training_domains(wish, domains)


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
    from bench.commands.data import DatasetSpec, prepare_dataset

    folder = Workspace(place.workspace).data_set(name)
    order = DatasetSpec(domains[name], domains, place.data, (), own, None, 0, folder)
    return prepare_dataset(order, place.workspace, indexes)


def _fit_together(jobs: Mapping[str, _Job]) -> bool:
    from finetune.multi_adapter.loop import refuse_unfit

    try:
        refuse_unfit(next(iter(jobs.values()))[0].settings)
    except BenchError:
        return False
    return True


def _seconds(job: _Job, loading: ModelSpec) -> float:
    """How long a training will take."""
    from finetune.dry_run import dry_run

    return dry_run(*job, loading.model, loading.device, loading.dtype).prediction.seconds


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
