"""The middle of `bench improve`: what may help, found by asking; and each treatment that may."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from improve.resources import open_adapters, open_means
from improve.retrieve import NUMBERS
from improve.score import scored

if TYPE_CHECKING:
    from benchmarks.runs.store import Record, Run
    from domainlift.types import Question
    from ensemble.plan import Care
    from ensemble.treatment import Means
    from improve.context import Scene
    from improve.plan_runner import Asker
    from improve.triage import Triage
    from rag.retrieval_gate import Gate


@dataclass(frozen=True)
class Tried:
    """What triage found: counts, the gates of the base model, and what may be tried."""

    triage: Mapping[str, Triage]
    gates: Mapping[str, Gate]
    rag: tuple[str, ...] = ()
    lora: tuple[str, ...] = ()


@dataclass(frozen=True)
class Arms:
    """Every treatment on the selection questions.

    `runs` are their names, `cares` what each domain gets, `answers` by domain and treatment in
    the order of cost.
    """

    runs: Mapping[str, str]
    cares: Mapping[str, Mapping[str, Care]]
    answers: Mapping[str, Mapping[str, list[Record]]]


def triaged(
    scene: Scene,
    asker: Asker,
    names: list[str],
    shelves: Mapping[str, Care],
    notes: list[str],
) -> Tried:
    """Ask what was missed again: as it was, with passages, and with the best passage there is."""
    from benchmarks.treatments import passages as rag
    from improve import triage as found

    base = asker.base.records()
    with open_means(shelves, asker.engine(), scene.place.workspace) as means:
        runs = _with_passages(asker, shelves, means) if shelves else {}
        leaks = rag.leaked(record for records in runs.values() for record in records)
        sound = [r for r in base if r.domain in names and r.id not in leaks]
        missed = set(found.misses(sound))
        questions = tuple(q for q in asker.job.questions if q.id in missed)
        golden = _golden(asker, questions, means) if questions and shelves else []
    again = asked_again(asker, questions, "misses").records() if questions else []
    if leaks:
        notes.append(f"{len(leaks)} questions stand in the knowledge bases and do not count")
    counts = found.triage(
        found.Evidence(
            found.by_id(sound),
            found.by_id(again),
            _best_number(runs, names),
            found.by_id(golden),
        )
    )
    tried = {k: rag.trials(base, records) for k, records in runs.items()}
    gates = {name: gate for name, (gate, _) in rag.calibrated(tried, shelves).items()}
    return _allowed(scene, names, counts, gates)


def _allowed(
    scene: Scene, names: Sequence[str], counts: Mapping[str, Triage], gates: Mapping[str, Gate]
) -> Tried:
    """What may be tried: what could gain enough, were it never wrong."""
    least = scene.wishes.terms.min_gain
    shares = {name: counts[name].hits / counts[name].n for name in counts if counts[name].n}

    def reaches(name: str, treatment: str) -> bool:
        return name in shares and counts[name].ceilings[treatment] >= least.over(shares[name])

    rag = tuple(n for n in gates if not gates[n].closed and reaches(n, "rag"))
    lora = () if scene.wishes.skip_train else tuple(n for n in names if reaches(n, "lora"))
    return Tried(counts, gates, rag, lora)


def _golden(asker: Asker, questions: tuple[Question, ...], means: Means) -> list[Record]:
    """The same with the one passage that is best for the right answer."""
    from benchmarks.treatments.passages import Bases, gold

    treater = gold(Bases(means.retrievers, means.budget))
    job = replace(asker.job, questions=questions, treater=treater)
    return scored(job, asker.engine(), asker.place, part="gold passages").records()


def _with_passages(
    asker: Asker, cares: Mapping[str, Care], means: Means
) -> dict[int, list[Record]]:
    """Every question of these domains with passages, whatever they are worth, by their number."""
    from benchmarks.treatments.plan import BY_LABEL
    from rag.retrieval_gate import OPEN

    found = {}
    kinds = "adapter, " if any(care.uses_adapter for care in cares.values()) else ""
    for k in NUMBERS:
        opened = {name: replace(care, gate=replace(OPEN, k=k)) for name, care in cares.items()}
        found[k] = asker.ask(f"{kinds}passages: {k}", BY_LABEL, opened, means).records()
    return found


def _best_number(runs: Mapping[int, list[Record]], names: Sequence[str]) -> dict[str, Record]:
    """By question, the answer with as many passages as serve its domain best."""
    from improve.triage import by_domain

    best: dict[str, Record] = {}
    split = [by_domain(records) for records in runs.values()]
    for name in names:
        answers = [found.get(name, []) for found in split]
        chosen = max(answers, key=lambda records: sum(bool(r.correct) for r in records), default=[])
        best.update({record.id: record for record in chosen})
    return best


def treated(
    scene: Scene,
    asker: Asker,
    tried: Tried,
    shelves: Mapping[str, Care],
    adapters: Mapping[str, Care],
) -> Arms:
    """Each treatment on the selection questions; passages and adapter together as well."""
    from benchmarks.treatments.plan import BY_LABEL

    runs: dict[str, Run] = {"base": asker.base}
    rag = {name: replace(shelves[name], gate=tried.gates[name]) for name in tried.rag}
    cares: dict[str, Mapping[str, Care]] = {"lora": adapters, "rag": rag}
    together = {
        name: replace(adapters[name], treatment="rag+lora", knowledge_base=care.knowledge_base)
        for name, care in shelves.items()
        if name in adapters
    }
    workspace = scene.place.workspace
    with open_means(shelves, asker.engine(), workspace) as means:
        own = open_adapters(adapters, asker.engine(), workspace)
        means = replace(means, adapters=own)
        if together:
            cares["rag+lora"] = _with_gates(asker, together, means)
        for arm, given in cares.items():
            if given:
                runs[arm] = asker.ask(arm, BY_LABEL, given, means)
    named = {name: run.folder.name for name, run in runs.items()}
    records = {name: run.records() for name, run in runs.items()}
    return Arms(named, cares, sound_answers(records, cares))


def sound_answers(
    records: Mapping[str, list[Record]], treated: Mapping[str, Container[str]]
) -> dict[str, dict[str, list[Record]]]:
    """By domain the answers under each treatment that it had; leaked questions do not count.

    `treated` names the domains of each treatment; the base model's answers are there for all.
    """
    from benchmarks.treatments.passages import leaked
    from improve.triage import by_domain

    leaks = leaked(record for found in records.values() for record in found)
    answers: dict[str, dict[str, list[Record]]] = {}
    for arm, found in records.items():
        sound = [record for record in found if record.id not in leaks]
        for name, own in by_domain(sound).items():
            if arm == "base" or name in treated[arm]:
                answers.setdefault(name, {})[arm] = own
    return answers


def _with_gates(asker: Asker, cares: Mapping[str, Care], means: Means) -> dict[str, Care]:
    """Calibrate gates anew for a model that has learned; where one is shut, it answers alone."""
    from benchmarks.treatments import passages as rag
    from benchmarks.treatments.plan import BY_LABEL
    from improve.plan_runner import without_passages

    bare = {name: without_passages(care) for name, care in cares.items()}
    plain = asker.ask("lora", BY_LABEL, bare, means).records()
    runs = _with_passages(asker, cares, means)
    tried = {k: rag.trials(plain, records) for k, records in runs.items()}
    gates = rag.calibrated(tried, cares)
    return {name: replace(care, gate=gates[name][0]) for name, care in cares.items()}


def asked_again(asker: Asker, questions: tuple[Question, ...], name: str) -> Run:
    """The same questions in a run of their own, of which nothing is known."""
    from benchmarks.treatments.base import BASE

    treater = replace(BASE, name=name, digest=name)
    job = replace(asker.job, questions=questions, treater=treater)
    return scored(job, asker.engine(), asker.place, part=f"asked again, {name}")
