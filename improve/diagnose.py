"""The middle of `bench improve`: what may help, found by asking; and each treatment that may."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from improve.resources import open_adapters, open_resources
from improve.retrieve import NUMBERS
from improve.score import score_job

if TYPE_CHECKING:
    from benchmarks.results.improve_result import TriageResult
    from benchmarks.runs.store import Record, Run
    from domainlift.types import Question
    from ensemble.plan import DomainTreatment
    from ensemble.treatment import PlanResources
    from improve.context import ImproveContext
    from improve.plan_runner import PlanRunner
    from rag.retrieval_gate import Gate


@dataclass(frozen=True)
class TriageOutcome:
    """What triage found: counts, the gates of the base model, and what may be tried."""

    triage: Mapping[str, TriageResult]
    gates: Mapping[str, Gate]
    rag: tuple[str, ...] = ()
    lora: tuple[str, ...] = ()


@dataclass(frozen=True)
class TreatmentRuns:
    """Every treatment on the selection questions.

    `runs` are their names, `cares` what each domain gets, `answers` by domain and treatment in
    the order of cost.
    """

    runs: Mapping[str, str]
    cares: Mapping[str, Mapping[str, DomainTreatment]]
    answers: Mapping[str, Mapping[str, list[Record]]]


def run_triage(
    scene: ImproveContext,
    asker: PlanRunner,
    names: list[str],
    shelves: Mapping[str, DomainTreatment],
    notes: list[str],
) -> TriageOutcome:
    """Ask what was missed again: as it was, with passages, and with the best passage there is."""
    from benchmarks.treatments import passages as rag
    from improve import triage as found

    base = asker.base.records()
    with open_resources(shelves, asker.engine(), scene.place.workspace) as means:
        runs = _with_passages(asker, shelves, means) if shelves else {}
        leaks = rag.contaminated_ids(record for records in runs.values() for record in records)
        sound = [r for r in base if r.domain in names and r.id not in leaks]
        missed = set(found.misses(sound))
        questions = tuple(q for q in asker.job.questions if q.id in missed)
        golden = _golden(asker, questions, means) if questions and shelves else []
    again = retest(asker, questions, "misses").records() if questions else []
    if leaks:
        notes.append(f"{len(leaks)} questions stand in the knowledge bases and do not count")
    counts = found.triage(
        found.TriageAnswers(
            found.by_id(sound),
            found.by_id(again),
            _best_number(runs, names),
            found.by_id(golden),
        )
    )
    tried = {k: rag.calibration_samples(base, records) for k, records in runs.items()}
    gates = {name: gate for name, (gate, _) in rag.calibrate_gates(tried, shelves).items()}
    return _allowed(scene, names, counts, gates)


def _allowed(
    scene: ImproveContext,
    names: Sequence[str],
    counts: Mapping[str, TriageResult],
    gates: Mapping[str, Gate],
) -> TriageOutcome:
    """What may be tried: what could gain enough, were it never wrong."""
    least = scene.options.terms.min_gain
    shares = {name: counts[name].hits / counts[name].n for name in counts if counts[name].n}

    def reaches(name: str, treatment: str) -> bool:
        return name in shares and counts[name].ceilings[treatment] >= least.over(shares[name])

    rag = tuple(n for n in gates if not gates[n].closed and reaches(n, "rag"))
    lora = () if scene.options.skip_train else tuple(n for n in names if reaches(n, "lora"))
    return TriageOutcome(counts, gates, rag, lora)


def _golden(
    asker: PlanRunner, questions: tuple[Question, ...], means: PlanResources
) -> list[Record]:
    """The same with the one passage that is best for the right answer."""
    from benchmarks.treatments.passages import OpenKnowledgeBases, oracle_passage_policy

    treater = oracle_passage_policy(OpenKnowledgeBases(means.retrievers, means.budget))
    job = replace(asker.job, questions=questions, policy=treater)
    return score_job(job, asker.engine(), asker.place, part="gold passages").records()


def _with_passages(
    asker: PlanRunner, cares: Mapping[str, DomainTreatment], means: PlanResources
) -> dict[int, list[Record]]:
    """Every question of these domains with passages, whatever they are worth, by their number."""
    from benchmarks.treatments.plan import ORACLE
    from rag.retrieval_gate import OPEN

    found = {}
    kinds = "adapter, " if any(care.uses_adapter for care in cares.values()) else ""
    for k in NUMBERS:
        opened = {name: replace(care, gate=replace(OPEN, k=k)) for name, care in cares.items()}
        found[k] = asker.run(f"{kinds}passages: {k}", ORACLE, opened, means).records()
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


def run_treatments(
    scene: ImproveContext,
    asker: PlanRunner,
    tried: TriageOutcome,
    shelves: Mapping[str, DomainTreatment],
    adapters: Mapping[str, DomainTreatment],
) -> TreatmentRuns:
    """Each treatment on the selection questions; passages and adapter together as well."""
    from benchmarks.treatments.plan import ORACLE

    runs: dict[str, Run] = {"base": asker.base}
    rag = {name: replace(shelves[name], gate=tried.gates[name]) for name in tried.rag}
    cares: dict[str, Mapping[str, DomainTreatment]] = {"lora": adapters, "rag": rag}
    together = {
        name: replace(adapters[name], treatment="rag+lora", knowledge_base=care.knowledge_base)
        for name, care in shelves.items()
        if name in adapters
    }
    workspace = scene.place.workspace
    with open_resources(shelves, asker.engine(), workspace) as means:
        own = open_adapters(adapters, asker.engine(), workspace)
        means = replace(means, adapters=own)
        if together:
            cares["rag+lora"] = _with_gates(asker, together, means)
        for arm, given in cares.items():
            if given:
                runs[arm] = asker.run(arm, ORACLE, given, means)
    named = {name: run.folder.name for name, run in runs.items()}
    records = {name: run.records() for name, run in runs.items()}
    return TreatmentRuns(named, cares, without_contaminated(records, cares))


def without_contaminated(
    records: Mapping[str, list[Record]], treated: Mapping[str, Container[str]]
) -> dict[str, dict[str, list[Record]]]:
    """By domain the answers under each treatment that it had; leaked questions do not count.

    `treated` names the domains of each treatment; the base model's answers are there for all.
    """
    from benchmarks.treatments.passages import contaminated_ids
    from improve.triage import by_domain

    leaks = contaminated_ids(record for found in records.values() for record in found)
    answers: dict[str, dict[str, list[Record]]] = {}
    for arm, found in records.items():
        sound = [record for record in found if record.id not in leaks]
        for name, own in by_domain(sound).items():
            if arm == "base" or name in treated[arm]:
                answers.setdefault(name, {})[arm] = own
    return answers


def _with_gates(
    asker: PlanRunner, cares: Mapping[str, DomainTreatment], means: PlanResources
) -> dict[str, DomainTreatment]:
    """Calibrate gates anew for a model that has learned; where one is shut, it answers alone."""
    from benchmarks.treatments import passages as rag
    from benchmarks.treatments.plan import ORACLE
    from improve.plan_runner import without_passages

    bare = {name: without_passages(care) for name, care in cares.items()}
    plain = asker.run("lora", ORACLE, bare, means).records()
    runs = _with_passages(asker, cares, means)
    tried = {k: rag.calibration_samples(plain, records) for k, records in runs.items()}
    gates = rag.calibrate_gates(tried, cares)
    return {name: replace(care, gate=gates[name][0]) for name, care in cares.items()}


def retest(asker: PlanRunner, questions: tuple[Question, ...], name: str) -> Run:
    """The same questions in a run of their own, of which nothing is known."""
    from benchmarks.treatments.base import BASE_POLICY

    treater = replace(BASE_POLICY, name=name, digest=name)
    job = replace(asker.job, questions=questions, policy=treater)
    return score_job(job, asker.engine(), asker.place, part=f"asked again, {name}")
