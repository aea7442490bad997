"""The loop of `bench improve`: from the base model's score to a judged plan, stage by stage.

Every stage finds what an interrupted one left: runs by their fingerprints, knowledge bases and
adapters by what they were made of. So there is no state to keep, and the same command goes on.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

from bench.asked import Asker
from bench.lifting import Held, Lifter
from bench.means import Limits, open_means
from bench.proving import Proving, prove
from bench.routing import fitted
from bench.scored import Place, scored
from domainlift.errors import Misuse, NoSuch

if TYPE_CHECKING:
    from benchmarks.improved import Diagnosis, Improved, Noise
    from benchmarks.portions import Portions
    from benchmarks.preference import Arm
    from benchmarks.promotion import Terms
    from benchmarks.runner import Settings
    from benchmarks.store import Record, Run
    from benchmarks.tasks.base import Task
    from benchmarks.triage import Triage
    from domainlift.questions import Question
    from ensemble.plan import Care
    from ensemble.treatment import Means
    from knowledge_bases.domains import Domain
    from rag.gate import Gate

#: Questions that are asked twice, to know how often the same model answers otherwise.
SAMPLE = 100
#: How many passages are tried before a question.
NUMBERS = (1, 3)


@dataclass(frozen=True)
class Wishes:
    """What the user said. `only` are the domains to treat, () for all that are weak."""

    terms: Terms
    only: tuple[str, ...] = ()
    skip_rag: bool = False
    skip_train: bool = False
    minutes: float | None = None
    own: bool = False
    change: tuple[str, ...] = ()


@dataclass(frozen=True)
class Scene:
    """What the loop works on."""

    settings: Settings
    portions: Portions
    domains: dict[str, Domain]
    place: Place
    wishes: Wishes
    limit: int | None = None


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


@dataclass(frozen=True)
class Tried:
    """What triage found: counts, the gates of the base model, and what may be tried."""

    triage: Mapping[str, Triage]
    gates: Mapping[str, Gate]
    rag: tuple[str, ...] = ()
    lora: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arms:
    """Every treatment on the selection questions: run, and what each domain got in it."""

    runs: Mapping[str, Run]
    cares: Mapping[str, Mapping[str, Care]]


#: Called with what is known so far, after each stage that found something.
Tell = Callable[["Improved"], None]


def improve(scene: Scene, held: Held, tell: Tell) -> Improved:
    """Find weak domains, treat them, and judge the outcome on questions never asked before."""
    from benchmarks.improved import Improved

    clock = Clock(scene.wishes.minutes)
    notes: list[str] = []
    with clock.stage("baseline"):
        asker = _asker(scene, held, scene.portions.selection, "selection")
        diagnosis = _diagnosis(scene, asker)
        names = _to_treat(scene, diagnosis)
    model, suite = held.engine.info.model, scene.settings.suite
    done = Improved(model, suite, diagnosis, notes=notes, stages=clock.stages)
    tell(done)
    wishes = scene.wishes
    lifter = Lifter(scene.domains, scene.place, wishes.own, notes, wishes.change)
    with clock.stage("knowledge bases"):
        shelves = {} if wishes.skip_rag else lifter.build(names)
    with clock.stage("triage"), open_means(shelves, held.engine, *_where(scene)) as means:
        tried = _triage(scene, asker, names, shelves, means)
    tell(done := replace(done, triage=tried.triage))
    with clock.stage("training"):
        adapters = lifter.train(tried.lora, held, clock)
        asker = replace(asker, engine=held.engine)
    with clock.stage("selection"):
        arms = _arms(scene, asker, tried, shelves, adapters)
        done = _chosen(done, names, arms)
    tell(done)
    cares = {name: arms.cares[arm][name] for name, arm in done.chosen.items() if arm != "base"}
    return _proven(scene, held, clock, done, asker, cares) if cares else done


def _chosen(done: Improved, names: Sequence[str], arms: Arms) -> Improved:
    """Choose each domain's treatment."""
    return replace(
        done,
        arms=_table(done.diagnosis.words, arms),
        chosen={name: _choose(name, arms) for name in names},
        runs={name: run.folder.name for name, run in arms.runs.items()},
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
        keywords = fitted(scene.portions.held_out, scene.domains, scene.place)
    with clock.stage("held-out questions"):
        proving = Proving(cares, keywords, scene.domains, scene.place, scene.wishes.terms)
        final = _asker(scene, held, scene.portions.held_out, "held out")
        return prove(proving, done, asker, final)


def _where(scene: Scene) -> tuple[Path, Limits]:
    return scene.place.workspace, Limits()


def _asker(scene: Scene, held: Held, tasks: Sequence[Task], part: str) -> Asker:
    from benchmarks.runner import prepare

    name = f"{scene.settings.suite}-{part.replace(' ', '-')}"
    settings = replace(scene.settings, suite=name, limit=_limit(scene, part))
    job = prepare(tasks, settings, held.engine.info)
    base = scored(job, held.engine, scene.place, part=f"{part}, base")
    return Asker(job, held.engine, scene.place, base)


def _limit(scene: Scene, part: str) -> int | None:
    """A third of the questions is for choosing."""
    if scene.limit is None:
        return None
    selection = max(1, scene.limit // 3)
    return selection if part == "selection" else scene.limit - selection


def _diagnosis(scene: Scene, asker: Asker) -> Diagnosis:
    from benchmarks.improved import diagnose
    from benchmarks.profile import profile

    return diagnose(profile(asker.base, scene.place.target), _noise(asker))


def _noise(asker: Asker) -> Noise:
    """Ask a sample once more, with nothing changed."""
    from benchmarks.improved import Noise
    from benchmarks.sampling import stratified
    from domainlift.statistics import wilson

    sample = tuple(stratified(asker.job.questions, SAMPLE, seed=1))
    again = {record.id: record for record in _again(asker, sample, "noise").records()}
    first = [record for record in asker.base.records() if record.id in again]
    flips = sum(record.correct != again[record.id].correct for record in first)
    return Noise(len(first), flips, wilson(flips, len(first)))


def _again(asker: Asker, questions: tuple[Question, ...], name: str) -> Run:
    """The same questions in a run of their own, of which nothing is known."""
    from benchmarks.treatments import BASE

    treater = replace(BASE, name=name, digest=name)
    job = replace(asker.job, questions=questions, treater=treater)
    return scored(job, asker.engine, asker.place, part=f"asked again, {name}")


def _to_treat(scene: Scene, diagnosis: Diagnosis) -> list[str]:
    from benchmarks.improved import FAULTY

    for name in scene.wishes.only:
        if name not in diagnosis.words:
            raise NoSuch("domain", name, diagnosis.words, "bench domains")
        if diagnosis.words[name] == FAULTY:
            hint = "`bench runs show` has sample replies; mend how the model is asked first"
            raise Misuse(f"domain `{name}` is at fault, not weak: no treatment mends that", hint)
    if scene.wishes.only:
        return list(scene.wishes.only)
    return [name for name in diagnosis.named("weak") if not scene.domains[name].protected]


def _triage(
    scene: Scene, asker: Asker, names: list[str], shelves: Mapping[str, Care], means: Means
) -> Tried:
    """Ask what was missed again: as it was, with passages, and with the best passage there is."""
    from benchmarks import triage as found
    from benchmarks.rag import Bases, gold, trials
    from rag.gate import calibrate

    base = asker.base.records()
    runs = {k: _open_to_all(asker, shelves, means, k) for k in NUMBERS} if shelves else {}
    missed = set(found.misses([record for record in base if record.domain in names]))
    questions = tuple(q for q in asker.job.questions if q.id in missed)
    again = _again(asker, questions, "misses").records() if questions else []
    golden: list[Record] = []
    if questions and shelves:
        treater = gold(Bases(means.retrievers, means.budget))
        job = replace(asker.job, questions=questions, treater=treater)
        golden = scored(job, asker.engine, asker.place, part="gold passages").records()
    evidence = found.Evidence(
        found.by_id([record for record in base if record.domain in names]),
        found.by_id(again),
        _best_number(runs, names),
        found.by_id(golden),
    )
    counts = found.triage(evidence)
    tried = {k: trials(base, run.records()) for k, run in runs.items()}
    gates = {
        name: calibrate({k: by_domain.get(name, []) for k, by_domain in tried.items()})[0]
        for name in shelves
    }
    least = scene.wishes.terms.min_gain
    shares = {name: counts[name].hits / counts[name].n for name in counts if counts[name].n}

    def reaches(name: str, treatment: str) -> bool:
        return name in shares and counts[name].ceilings[treatment] >= least.over(shares[name])

    rag = tuple(n for n in shelves if not gates[n].closed and reaches(n, "rag"))
    lora = () if scene.wishes.skip_train else tuple(n for n in names if reaches(n, "lora"))
    return Tried(counts, gates, rag, lora)


def _open_to_all(asker: Asker, cares: Mapping[str, Care], means: Means, k: int) -> Run:
    """Every question of these domains with so many passages, whatever they are worth."""
    from benchmarks.ensemble import by_label
    from rag.gate import OPEN

    opened = {name: replace(care, gate=replace(OPEN, k=k)) for name, care in cares.items()}
    kinds = "adapter, " if any(care.uses_adapter for care in cares.values()) else ""
    return asker.ask(f"{kinds}passages: {k}", by_label, opened, means, ())


def _best_number(runs: Mapping[int, Run], names: list[str]) -> dict[str, Record]:
    """By question, the answer with as many passages as serve its domain best."""
    best: dict[str, Record] = {}
    for name in names:
        answers = [
            [record for record in run.records() if record.domain == name] for run in runs.values()
        ]
        chosen = max(answers, key=lambda records: sum(bool(r.correct) for r in records), default=[])
        best.update({record.id: record for record in chosen})
    return best


def _arms(
    scene: Scene,
    asker: Asker,
    tried: Tried,
    shelves: Mapping[str, Care],
    adapters: Mapping[str, Care],
) -> Arms:
    """Each treatment on the selection questions; passages and adapter together as well."""
    from benchmarks.ensemble import by_label

    runs: dict[str, Run] = {"base": asker.base}
    rag = {name: replace(shelves[name], gate=tried.gates[name]) for name in tried.rag}
    cares: dict[str, Mapping[str, Care]] = {"rag": rag, "lora": adapters}
    together = {
        name: replace(adapters[name], treatment="rag+lora", knowledge_base=care.knowledge_base)
        for name, care in shelves.items()
        if name in adapters
    }
    with open_means({**shelves, **together}, asker.engine, *_where(scene)) as means:
        if together:
            cares["rag+lora"] = _with_gates(asker, together, means)
        for arm, own in cares.items():
            if own:
                runs[arm] = asker.ask(arm, by_label, own, _for(means, own, asker, scene), ())
    return Arms(runs, cares)


def _for(means: Means, cares: Mapping[str, Care], asker: Asker, scene: Scene) -> Means:
    """The same means with the adapters of these domains."""
    from bench.means import open_adapters

    return replace(means, adapters=open_adapters(cares, asker.engine, scene.place.workspace))


def _with_gates(asker: Asker, cares: Mapping[str, Care], means: Means) -> dict[str, Care]:
    """Calibrate gates anew for a model that has learned; where one is shut, it answers alone."""
    from bench.asked import without_passages
    from benchmarks.ensemble import by_label
    from benchmarks.rag import trials
    from rag.gate import calibrate

    bare = {name: without_passages(care) for name, care in cares.items()}
    plain = asker.ask("lora", by_label, bare, means, ()).records()
    runs = {k: _open_to_all(asker, cares, means, k).records() for k in NUMBERS}
    tried = {k: trials(plain, records) for k, records in runs.items()}
    gates = {
        name: calibrate({k: found.get(name, []) for k, found in tried.items()})[0] for name in cares
    }
    return {name: replace(care, gate=gates[name]) for name, care in cares.items()}


def _own(arms: Arms, name: str) -> dict[str, list[Record]]:
    """The answers to a domain's questions, by the treatments that it had."""
    from ensemble.plan import TREATMENTS

    return {
        arm: [record for record in arms.runs[arm].records() if record.domain == name]
        for arm in TREATMENTS
        if arm == "base" or name in arms.cares.get(arm, {})
    }


def _table(names: Iterable[str], arms: Arms) -> dict[str, dict[str, Arm]]:
    from benchmarks.preference import arm

    return {
        name: {treatment: arm(records) for treatment, records in _own(arms, name).items()}
        for name in names
    }


def _choose(name: str, arms: Arms) -> str:
    from benchmarks.preference import cheapest

    return cheapest(_own(arms, name))
