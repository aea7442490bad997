"""The loop of `bench improve`: from the base model's score to a judged plan, stage by stage.

Every stage finds what an interrupted one left: runs by their fingerprints, knowledge bases and
adapters by what they were made of. So there is no state to keep, and the same command goes on.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from domainlift.errors import Misuse
from improve.context import HELD_OUT, SELECTION, check_only
from improve.diagnose import retest, run_treatments, run_triage
from improve.plan_runner import PlanRunner
from improve.prove import Candidate, evaluate_on_held_out
from improve.route import fit_or_find_router
from improve.score import score_job
from improve.train import LazyEngine, TreatmentBuilder

if TYPE_CHECKING:
    from benchmarks.results.improve_result import Diagnosis, ImproveResult, RetestNoise
    from benchmarks.tasks.base import Task
    from ensemble.plan import DomainTreatment
    from improve.context import ImproveContext
    from improve.diagnose import TreatmentRuns

#: Questions that are asked twice, to know how often the same model answers otherwise.
SAMPLE = 100


@dataclass
class StageTimer:
    """How long each stage took, and how long there is."""

    minutes: float | None
    stages: dict[str, float] = field(default_factory=dict)
    start: float = field(default_factory=time.monotonic)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Say that a stage begins, and time it."""
        print(f"[{len(self.stages) + 1}] {name}", file=sys.stderr, flush=True)
        begun = time.monotonic()
        try:
            yield
        finally:
            self.stages[name] = time.monotonic() - begun

    @property
    def left(self) -> float:
        """Seconds until the budget is spent; infinite without one."""
        if self.minutes is None:
            return math.inf
        return max(0.0, 60 * self.minutes - (time.monotonic() - self.start))


#: Called with what is known so far, after each stage that found something.
OnResult = Callable[["ImproveResult"], None]


def improve(scene: ImproveContext, held: LazyEngine, tell: OnResult) -> ImproveResult:
    """Find weak domains, treat them, and judge the outcome on questions never asked before."""
    from benchmarks.results.improve_result import ImproveResult

    clock = StageTimer(scene.options.minutes)
    notes: list[str] = []
    with clock.stage("baseline"):
        asker = _asker(scene, held, scene.split.selection, SELECTION)
        diagnosis = _diagnosis(scene, asker)
        names = _to_treat(scene, diagnosis)
    model, suite = held.engine.info.model, scene.settings.suite
    done = ImproveResult(model, suite, diagnosis, notes=notes, stages=clock.stages)
    tell(done)
    wishes = scene.options
    lifter = TreatmentBuilder(scene.domains, scene.place, wishes.own, notes, wishes.change)
    with clock.stage("knowledge bases"):
        shelves = {} if wishes.skip_rag else lifter.build(names)
    with clock.stage("triage"):
        tried = run_triage(scene, asker, names, shelves, notes)
    tell(done := replace(done, triage=tried.triage))
    with clock.stage("training"):
        adapters = lifter.train(tried.lora, held, clock.left)
    with clock.stage("selection"):
        arms = run_treatments(scene, asker, tried, shelves, adapters)
        done = _chosen(done, names, arms)
    tell(done)
    cares = {name: arms.cares[arm][name] for name, arm in done.chosen.items() if arm != "base"}
    return _proven(scene, held, clock, done, asker, cares) if cares else done


def _chosen(done: ImproveResult, names: Sequence[str], arms: TreatmentRuns) -> ImproveResult:
    """Choose each domain's treatment."""
    from improve.select import cheapest_not_worse, score_treatment

    return replace(
        done,
        arms={
            name: {treatment: score_treatment(records) for treatment, records in own.items()}
            for name, own in arms.answers.items()
        },
        chosen={
            name: cheapest_not_worse(arms.answers[name]) if name in arms.answers else "base"
            for name in names
        },
        runs=arms.runs,
    )


def _proven(
    scene: ImproveContext,
    held: LazyEngine,
    clock: StageTimer,
    done: ImproveResult,
    asker: PlanRunner,
    cares: Mapping[str, DomainTreatment],
) -> ImproveResult:
    with clock.stage("router"):
        keywords = fit_or_find_router(scene.labelled, scene.domains, scene.place.workspace)
    with clock.stage("held-out questions"):
        proving = Candidate(cares, keywords, scene.place, scene.options.terms, scene.tested)
        final = _asker(scene, held, scene.split.held_out, HELD_OUT)
        return evaluate_on_held_out(proving, done, asker, final)


def _asker(scene: ImproveContext, held: LazyEngine, tasks: Sequence[Task], part: str) -> PlanRunner:
    from benchmarks.runs.runner import prepare_job

    name = f"{scene.settings.suite}-{part.replace(' ', '-')}"
    settings = replace(scene.settings, suite=name, limit=scene.limit_of(part))
    job = prepare_job(tasks, settings, held.engine.info)
    base = score_job(job, held.engine, scene.place, part=f"{part}, base")
    return PlanRunner.from_base_run(job, lambda: held.engine, scene.place, base)


def _diagnosis(scene: ImproveContext, asker: PlanRunner) -> Diagnosis:
    from benchmarks.results.domain_scores import evaluate_run
    from improve.result import diagnose

    return diagnose(evaluate_run(asker.base, scene.place.target), _noise(asker))


def _noise(asker: PlanRunner) -> RetestNoise:
    """Ask a sample once more, with nothing changed."""
    from benchmarks.results.improve_result import RetestNoise
    from domainlift.sampling import stratified
    from domainlift.stats.intervals import wilson

    sample = tuple(stratified(asker.job.questions, SAMPLE, seed=1))
    again = {record.id: record.correct for record in retest(asker, sample, "noise").records()}
    pairs = [(r.correct, again[r.id]) for r in asker.base.records() if r.id in again]
    answered = [(one, two) for one, two in pairs if one is not None and two is not None]
    flips = sum(one != two for one, two in answered)
    return RetestNoise(len(answered), flips, wilson(flips, len(answered)))


def _to_treat(scene: ImproveContext, diagnosis: Diagnosis) -> list[str]:
    from improve.result import FAULTY

    check_only(scene.options.only, diagnosis.words.keys() & scene.domains)
    for name in scene.options.only:
        if diagnosis.words[name] == FAULTY:
            hint = "`bench runs show` has sample replies; mend how the model is asked first"
            raise Misuse(f"domain `{name}` is at fault, not weak: no treatment mends that", hint)
    if scene.options.only:
        return list(scene.options.only)
    # What belongs to no declared domain has nothing that it could be treated with.
    known = (name for name in diagnosis.named("weak") if name in scene.domains)
    return [name for name in known if not scene.domains[name].protected]
