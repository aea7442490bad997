"""Stage "diagnose": a word per domain, and triage, what each treatment could gain at most.

Triage asks before any training. Each miss is asked once more as it was (one that turns is noise),
and with the passages that are found; what these do not mend, with the best passage for its right
answer. Each hit is asked with passages too: one that breaks is what the gate must keep them from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.results.domain_scores import EvalResult
from benchmarks.results.improve_result import FAULTY, Diagnosis, RetestNoise, TriageResult
from benchmarks.runs.store import Record, Run
from benchmarks.treatments.gate_calibration import contaminated_ids, oracle_passage_policy
from domainlift.errors import Misuse
from domainlift.stats.intervals import Verdict
from domainlift.types import Question
from ensemble.plan import DomainTreatment
from ensemble.treatment import PlanResources
from improve.context import ImproveContext, check_only
from improve.notes import Notes
from improve.plan_runner import PlanRunner
from improve.resources import open_resources
from improve.retrieve import calibrate_gates
from improve.score import retest, score_job
from rag.retrieval_gate import Gate


@dataclass(frozen=True)
class TriageOutcome:
    """Counts and gates of the base model by domain, and the domains to try `rag` and `lora` on."""

    triage: Mapping[str, TriageResult]
    gates: Mapping[str, Gate]
    rag: tuple[str, ...] = ()
    lora: tuple[str, ...] = ()


@dataclass(frozen=True)
class TriageAnswers:
    """Records by question: as asked, asked again, with passages, with the oracle passage.

    `own` are those in the tasks' own form, where all the others are in a better one.
    """

    base: Mapping[str, Record]
    again: Mapping[str, Record]
    passages: Mapping[str, Record]
    gold: Mapping[str, Record]
    own: Mapping[str, Record] = field(default_factory=dict)


def diagnose(scores: EvalResult, noise: RetestNoise) -> Diagnosis:
    """Say of each domain what its score says; a fault of the harness is no weakness."""
    words = {}
    for domain, score in scores.domains.items():
        unread = score.unparsed + score.cut_off + score.truncated + score.errors
        if score.below_chance or not score.n or unread > score.n // 10:
            words[domain] = FAULTY
        else:
            words[domain] = (score.verdict if score.verdict else Verdict.UNCERTAIN).value
    return Diagnosis(words, noise, scores)


def domains_to_treat(context: ImproveContext, diagnosis: Diagnosis) -> list[str]:
    """The domains that the user names, or the weak ones; Misuse where a named one is faulty."""
    only = context.options.only
    check_only(only, diagnosis.words.keys() & context.domains)
    for name in only:
        if diagnosis.words[name] == FAULTY:
            hint = "`bench runs show` has sample replies; mend how the model is asked first"
            raise Misuse(f"domain `{name}` is at fault, not weak: no treatment mends that", hint)
    if only:
        return list(only)
    # What belongs to no declared domain has nothing that it could be treated with.
    declared = (name for name in diagnosis.named("weak") if name in context.domains)
    return [name for name in declared if not context.domains[name].protected]


def run_triage(
    context: ImproveContext,
    runner: PlanRunner,
    own: Run,
    names: list[str],
    treatments: Mapping[str, DomainTreatment],
    notes: Notes,
    *,
    steady: bool = False,
) -> TriageOutcome:
    """Ask again what was missed: as it was, with passages, and with the oracle passage.

    `own` is the base model's run in the tasks' own form; `treatments` are passages of the domains
    that have a knowledge base. A `steady` model, which turned no answer of many, is not asked what
    it was asked before.
    """
    base = runner.base.records()
    with open_resources(treatments, runner.engine(), context.run_options.workspace) as resources:
        calibration = calibrate_gates(runner, treatments, resources)
        leaks = contaminated_ids(r for records in calibration.records.values() for r in records)
        sound = [r for r in base if r.domain in names and r.id not in leaks]
        missed = set(misses(sound))
        questions = tuple(q for q in runner.job.questions if q.id in missed)
        helped = _best_count(calibration.records, names)
        left = tuple(q for q in questions if q.id not in helped or not helped[q.id].correct)
        golden = _with_oracle(runner, left, resources) if left and treatments else []
    asks = bool(questions) and not steady
    again = retest(runner, questions, "misses").records() if asks else []
    if leaks:
        notes.add(f"{len(leaks)} questions stand in the knowledge bases and do not count")
    counts = triage(
        TriageAnswers(
            by_id(sound),
            by_id(again),
            helped,
            by_id(golden),
            by_id(own.records()),
        )
    )
    return _worth_trying(context, names, counts, calibration.gates)


def triage(answers: TriageAnswers) -> dict[str, TriageResult]:
    """Count the questions of each domain that were answered."""
    answered = (record for record in answers.base.values() if record.correct is not None)
    return {
        domain: replace(
            _counted([_outcome(record, answers) for record in records]),
            form=sum(_only_in_form(record, answers.own) for record in records),
        )
        for domain, records in sorted(by_domain(answered).items())
    }


def misses(records: Sequence[Record]) -> list[str]:
    """The questions that were answered wrong; unanswered questions are not counted."""
    return [record.id for record in records if record.correct is False]


def by_id(records: Sequence[Record]) -> dict[str, Record]:
    """Records by question."""
    return {record.id: record for record in records}


def by_domain(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by domain, in their order."""
    domains: dict[str, list[Record]] = {}
    for record in records:
        domains.setdefault(record.domain, []).append(record)
    return domains


def _worth_trying(
    context: ImproveContext,
    names: Sequence[str],
    counts: Mapping[str, TriageResult],
    gates: Mapping[str, Gate],
) -> TriageOutcome:
    """Leave out treatments that could not gain enough even if they were never wrong."""
    least = context.options.criteria.min_gain
    accuracies = {name: counts[name].hits / counts[name].n for name in counts if counts[name].n}

    def reaches(name: str, treatment: str) -> bool:
        if name not in accuracies:
            return False
        return counts[name].ceilings[treatment] >= least.over(accuracies[name])

    rag = tuple(n for n in gates if not gates[n].closed and reaches(n, "rag"))
    lora = () if context.options.skip_train else tuple(n for n in names if reaches(n, "lora"))
    return TriageOutcome(counts, gates, rag, lora)


def _with_oracle(
    runner: PlanRunner, questions: tuple[Question, ...], resources: PlanResources
) -> list[Record]:
    """The same with the one passage that is best for the right answer."""
    policy = oracle_passage_policy(resources.retrievers)
    job = replace(runner.job, questions=questions, policy=policy)
    return score_job(job, runner.engine(), runner.options, part="gold passages").records()


def _best_count(records: Mapping[int, Sequence[Record]], names: Sequence[str]) -> dict[str, Record]:
    """By question, the answer with as many passages as serve its domain best."""
    best: dict[str, Record] = {}
    split = [by_domain(found) for found in records.values()]
    for name in names:
        answers = [found.get(name, []) for found in split]
        chosen = max(answers, key=lambda found: sum(bool(r.correct) for r in found), default=[])
        best.update({record.id: record for record in chosen})
    return best


def _outcome(record: Record, answers: TriageAnswers) -> str:
    if record.correct:
        helped = answers.passages.get(record.id)
        return "broken" if helped is not None and helped.correct is False else "hit"
    for name in ("again", "passages", "gold"):
        other = getattr(answers, name).get(record.id)
        if other is not None and other.correct:
            return str(name)
    return "unrecoverable"


def _only_in_form(record: Record, own: Mapping[str, Record]) -> bool:
    before = own.get(record.id)
    return bool(record.correct) and before is not None and before.correct is False


def _counted(outcomes: Sequence[str]) -> TriageResult:
    return TriageResult(
        n=len(outcomes),
        hits=outcomes.count("hit") + outcomes.count("broken"),
        noise=outcomes.count("again"),
        passages=outcomes.count("passages"),
        retrieval=outcomes.count("gold"),
        unrecoverable=outcomes.count("unrecoverable"),
        broken=outcomes.count("broken"),
    )
