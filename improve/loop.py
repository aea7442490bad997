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
from improve.diagnose import asked_again, treated, triaged
from improve.plan_runner import Asker
from improve.prove import Proving, prove
from improve.route import fitted
from improve.score import scored
from improve.train import Held, Lifter

if TYPE_CHECKING:
    from benchmarks.tasks.base import Task
    from ensemble.plan import Care
    from improve.context import Scene
    from improve.diagnose import Arms
    from improve.result import Diagnosis, Improved, Noise

#: Questions that are asked twice, to know how often the same model answers otherwise.
SAMPLE = 100


@dataclass
class Clock:
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
Tell = Callable[["Improved"], None]


def improve(scene: Scene, held: Held, tell: Tell) -> Improved:
    """Find weak domains, treat them, and judge the outcome on questions never asked before."""
    from improve.result import Improved

    clock = Clock(scene.wishes.minutes)
    notes: list[str] = []
    with clock.stage("baseline"):
        asker = _asker(scene, held, scene.portions.selection, SELECTION)
        diagnosis = _diagnosis(scene, asker)
        names = _to_treat(scene, diagnosis)
    model, suite = held.engine.info.model, scene.settings.suite
    done = Improved(model, suite, diagnosis, notes=notes, stages=clock.stages)
    tell(done)
    wishes = scene.wishes
    lifter = Lifter(scene.domains, scene.place, wishes.own, notes, wishes.change)
    with clock.stage("knowledge bases"):
        shelves = {} if wishes.skip_rag else lifter.build(names)
    with clock.stage("triage"):
        tried = triaged(scene, asker, names, shelves, notes)
    tell(done := replace(done, triage=tried.triage))
    with clock.stage("training"):
        adapters = lifter.train(tried.lora, held, clock.left)
    with clock.stage("selection"):
        arms = treated(scene, asker, tried, shelves, adapters)
        done = _chosen(done, names, arms)
    tell(done)
    cares = {name: arms.cares[arm][name] for name, arm in done.chosen.items() if arm != "base"}
    return _proven(scene, held, clock, done, asker, cares) if cares else done


def _chosen(done: Improved, names: Sequence[str], arms: Arms) -> Improved:
    """Choose each domain's treatment."""
    from improve.select import arm, cheapest

    return replace(
        done,
        arms={
            name: {treatment: arm(records) for treatment, records in own.items()}
            for name, own in arms.answers.items()
        },
        chosen={
            name: cheapest(arms.answers[name]) if name in arms.answers else "base" for name in names
        },
        runs=arms.runs,
    )


def _proven(
    scene: Scene,
    held: Held,
    clock: Clock,
    done: Improved,
    asker: Asker,
    cares: Mapping[str, Care],
) -> Improved:
    with clock.stage("router"):
        keywords = fitted(scene.labelled, scene.domains, scene.place.workspace)
    with clock.stage("held-out questions"):
        proving = Proving(cares, keywords, scene.place, scene.wishes.terms, scene.tested)
        final = _asker(scene, held, scene.portions.held_out, HELD_OUT)
        return prove(proving, done, asker, final)


def _asker(scene: Scene, held: Held, tasks: Sequence[Task], part: str) -> Asker:
    from benchmarks.runs.runner import prepare

    name = f"{scene.settings.suite}-{part.replace(' ', '-')}"
    settings = replace(scene.settings, suite=name, limit=scene.limit_of(part))
    job = prepare(tasks, settings, held.engine.info)
    base = scored(job, held.engine, scene.place, part=f"{part}, base")
    return Asker.of(job, lambda: held.engine, scene.place, base)


def _diagnosis(scene: Scene, asker: Asker) -> Diagnosis:
    from benchmarks.results.domain_scores import profile
    from improve.result import diagnose

    return diagnose(profile(asker.base, scene.place.target), _noise(asker))


def _noise(asker: Asker) -> Noise:
    """Ask a sample once more, with nothing changed."""
    from benchmarks.runs.sampling import stratified
    from domainlift.statistics import wilson
    from improve.result import Noise

    sample = tuple(stratified(asker.job.questions, SAMPLE, seed=1))
    again = {record.id: record.correct for record in asked_again(asker, sample, "noise").records()}
    pairs = [(r.correct, again[r.id]) for r in asker.base.records() if r.id in again]
    answered = [(one, two) for one, two in pairs if one is not None and two is not None]
    flips = sum(one != two for one, two in answered)
    return Noise(len(answered), flips, wilson(flips, len(answered)))


def _to_treat(scene: Scene, diagnosis: Diagnosis) -> list[str]:
    from improve.result import FAULTY

    check_only(scene.wishes.only, diagnosis.words.keys() & scene.domains)
    for name in scene.wishes.only:
        if diagnosis.words[name] == FAULTY:
            hint = "`bench runs show` has sample replies; mend how the model is asked first"
            raise Misuse(f"domain `{name}` is at fault, not weak: no treatment mends that", hint)
    if scene.wishes.only:
        return list(scene.wishes.only)
    # What belongs to no declared domain has nothing that it could be treated with.
    known = (name for name in diagnosis.named("weak") if name in scene.domains)
    return [name for name in known if not scene.domains[name].protected]
