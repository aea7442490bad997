"""Stage "prove": the candidate on held-out questions, the gate, the plan and the report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.held_out.gate import DomainEvidence, GateVerdict, apply_gate
from benchmarks.held_out.ledger import HeldOutLedger
from benchmarks.results.comparison import compare_runs
from benchmarks.results.improve_result import FORM_ADAPTER, HeldOutResult
from benchmarks.results.pairing import paired_record_changes
from benchmarks.treatments.gate_calibration import contaminated_ids
from benchmarks.treatments.plan import ORACLE, RoutingPolicy, constant_policy, random_policy
from domainlift.files import sha256, timestamp, write_text
from domainlift.workspace import Workspace
from engines.base import Mode
from ensemble.plan import Plan, write_plan
from ensemble.router.keywords import write_keywords
from ensemble.router.router import Router
from improve.diagnose import by_domain
from improve.exam.as_served import ServedAnswers, served_answers
from improve.exam.exam import TEST
from improve.exam.scores import exam_scores
from improve.resources import open_adapters, open_resources
from improve.route import embed_in
from improve.select import score_treatment
from reports.compare_html import render_html
from reports.improve import sections

if TYPE_CHECKING:
    from benchmarks.held_out.gate import GateCriteria, Promotion
    from benchmarks.held_out.ledger import HeldOutUse
    from benchmarks.results.improve_result import ImproveResult, TreatmentScore
    from benchmarks.runs.store import Record, Run
    from domainlift.stats.paired import Paired
    from domainlift.types import Question
    from ensemble.plan import DomainTreatment
    from ensemble.router.decision import RouteDecision
    from ensemble.router.keywords import Keywords
    from ensemble.treatment import PlanResources
    from improve.exam.exam import Exam
    from improve.options import RunOptions
    from improve.plan_runner import PlanRunner

#: Held-out questions on which other routing policies are tried, and selection questions on which
#: the best single treatment is found: they decide nothing, and cost as much as the rest.
CONTROLS, SINGLES = 1_000, 300
_REMEMBERED = 1 << 16


@dataclass(frozen=True)
class Candidate:
    """Treatments of each domain, and the router that chooses among them.

    `task_digests` identify each task's data, by which uses of its held-out questions are counted.
    `form` is how everything is asked, "" for the tasks' own forms; `form_adapter` are treatments of
    domains by the adapter of all. Held-out questions of an `exam` are also asked under the
    `alternatives`, the treatments that were tried, and judged as they are served where they were
    chosen so.
    """

    treatments: Mapping[str, DomainTreatment]
    keywords: Keywords
    run_options: RunOptions
    criteria: GateCriteria
    task_digests: Mapping[str, str]
    form: str = ""
    form_adapter: Mapping[str, DomainTreatment] = field(default_factory=dict)
    alternatives: Mapping[str, Mapping[str, DomainTreatment]] = field(default_factory=dict)
    exam: Exam | None = None
    judged_as_served: bool = False

    @property
    def digest(self) -> str:
        """12 hexadecimal digits that change with the treatments and with what routes."""
        # The class was called Care when the first uses of held-out questions were recorded, and
        # the same candidate is no second use.
        treatments = repr(sorted(self.treatments.items())).replace("DomainTreatment(", "Care(")
        bare = [name for name, each in sorted(self.treatments.items()) if not each.examples]
        form = self.form + (f", no examples: {bare}" if bare else "")
        parts = f"({treatments}, {_routing_digest(self.keywords)!r}){form}"
        return hashlib.sha256(parts.encode()).hexdigest()[:12]


def evaluate_on_held_out(
    candidate: Candidate, result: ImproveResult, selection: PlanRunner, held_out: PlanRunner
) -> ImproveResult:
    """Evaluate the plan on held-out questions; write the plan and the report.

    The use of the questions is recorded before it is made. The best single treatment is chosen on
    selection questions, as the others were.
    """
    workspace = candidate.run_options.workspace
    routing = keyword_routing(candidate.keywords, tuple(candidate.treatments), workspace)
    with open_resources(candidate.treatments, held_out.engine(), workspace) as resources:
        single = _best_single(candidate, selection, resources)
        use = _record_use(candidate, held_out)
        ensemble = held_out.run("ensemble", routing, candidate.treatments, resources)
        controls = _controls(candidate, held_out, resources, single)
    runs = {"base": held_out.base, "ensemble": ensemble, **controls}
    tried = _alternatives(candidate, held_out)
    served = _served(candidate, held_out, routing)
    proof = _held_out_result(candidate, held_out, ensemble, runs, use, served)
    plan = _write_plan(candidate, proof, held_out, ensemble)
    names = {
        "held out, base": held_out.base.folder.name,
        "held out, ensemble": ensemble.folder.name,
    }
    result = replace(result, proof=proof, plan=plan, runs={**result.runs, **names})
    if candidate.exam is not None:
        records = {name: run.records() for name, run in {**runs, **tried}.items()}
        likely = _served(candidate, held_out, routing, Mode.CLOZE)
        result = replace(result, exam=exam_scores(candidate.exam, records, served, likely))
    return replace(result, report=_write_report(candidate, result, held_out.base, ensemble))


def keyword_routing(keywords: Keywords, targets: Sequence[str], workspace: Path) -> RoutingPolicy:
    """Send each question to one of the domains, or to none, as its words and documents say."""
    # A policy is asked for the same question several times, and a server for ever new ones.
    decide = lru_cache(_REMEMBERED)(Router(keywords, targets, embed=embed_in(workspace)).route)

    def send(question: Question) -> RouteDecision:
        return decide(question.text, question.options)

    return RoutingPolicy(f"keywords {_routing_digest(keywords)}: {', '.join(targets)}", send)


def _routing_digest(keywords: Keywords) -> str:
    """A digest of what routes, without when and on what it was fitted."""
    return replace(keywords, fitted={}).digest


def _record_use(candidate: Candidate, held_out: PlanRunner) -> HeldOutUse:
    questions = [question.id for question in held_out.job.questions]
    return HeldOutLedger(candidate.run_options.workspace).record_use(
        candidate.task_digests,
        questions,
        candidate.digest,
        candidate.criteria.level,
        run=held_out.base.folder.name,
        decision="promote or reject a plan",
    )


def _best_single(candidate: Candidate, selection: PlanRunner, resources: PlanResources) -> str:
    """The domain whose treatment, given to every question, serves all of them best."""
    accuracies = {}
    if len(candidate.treatments) == 1:
        return next(iter(candidate.treatments))
    sample = selection.sample(SINGLES)
    for domain in sorted(candidate.treatments):
        policy = constant_policy(domain)
        run = sample.run(f"all as {domain}", policy, candidate.treatments, resources)
        accuracies[domain] = score_treatment(run.records()).accuracy
    return max(accuracies, key=lambda domain: accuracies[domain])


def _controls(
    candidate: Candidate, held_out: PlanRunner, resources: PlanResources, single: str
) -> dict[str, Run]:
    """The same treatments under other routing policies, on a sample of many questions."""
    policies: dict[str, RoutingPolicy] = {
        "route by label": ORACLE,
        "route at random": random_policy(list(candidate.treatments)),
        f"all as {single}": constant_policy(single),
    }
    sample = held_out.sample(CONTROLS)
    runs = {
        name: sample.run(name, policy, candidate.treatments, resources)
        for name, policy in policies.items()
    }
    trained = [name for name, each in candidate.treatments.items() if each.uses_adapter]
    form = {name: own for name, own in candidate.form_adapter.items() if name in trained}
    if form and any(candidate.treatments[name] != form[name] for name in form):
        engine, workspace = held_out.engine(), candidate.run_options.workspace
        opened = replace(resources, adapters=open_adapters(form, engine, workspace))
        runs[FORM_ADAPTER] = sample.run(FORM_ADAPTER, ORACLE, form, opened)
    return runs


def _alternatives(candidate: Candidate, held_out: PlanRunner) -> dict[str, Run]:
    """What the chosen domains would have had under each treatment that was tried."""
    runs = {}
    workspace = candidate.run_options.workspace
    for name, treatments in candidate.alternatives.items():
        own = {
            domain: each for domain, each in treatments.items() if domain in candidate.treatments
        }
        if own and name != FORM_ADAPTER:
            with open_resources(own, held_out.engine(), workspace) as resources:
                runs[name] = held_out.run(name, ORACLE, own, resources)
    return runs


def _served(
    candidate: Candidate,
    held_out: PlanRunner,
    routing: RoutingPolicy,
    mode: Mode = Mode.GENERATE,
) -> ServedAnswers:
    """The exam's held-out questions as they are served, by each treatment and by the plan."""
    exam = candidate.exam
    if exam is None:
        return {}
    alone = {name: own for name, own in candidate.alternatives.items() if name != FORM_ADAPTER}
    ask = partial(served_answers, exam, TEST, held_out.engine(), candidate.run_options, mode=mode)
    return {**ask(alone), **ask({"ensemble": candidate.treatments}, routing=routing)}


def _as_served(records: Sequence[Record], served: Sequence[Record]) -> list[Record]:
    """The records, those of questions that were asked as they are served in their place."""
    by_id = {record.id: record for record in served}
    return [by_id.get(record.id, record) for record in records]


def _held_out_result(
    candidate: Candidate,
    held_out: PlanRunner,
    ensemble: Run,
    runs: Mapping[str, Run],
    use: HeldOutUse,
    served: ServedAnswers,
) -> HeldOutResult:
    """Compare with the base model; questions that stand in a knowledge base prove nothing.

    An exam by whose `served` answers a treatment was chosen is judged by them.
    """
    records, base = ensemble.records(), held_out.base.records()
    leaks = contaminated_ids(records)
    if candidate.judged_as_served and served:
        records = _as_served(records, served["ensemble"])
        base = _as_served(base, served["base"])
    after = [record for record in records if record.id not in leaks]
    before = [record for record in base if record.id not in leaks]
    change = paired_record_changes(before, after, {q.id: q for q in held_out.job.questions})
    return HeldOutResult(
        change=change,
        promotion=_promotion(candidate, change, before, after, use.level),
        controls=_control_scores(runs, leaks),
        routed=_share_routed_right(records, candidate.treatments),
        look=use.number,
        level=use.level,
        due=use.exhausted,
        leaked=len(leaks),
    )


def _promotion(
    candidate: Candidate,
    changes: Mapping[str, Paired],
    before: list[Record],
    after: list[Record],
    level: float,
) -> Promotion:
    first, then = by_domain(before), by_domain(after)
    evidence = {
        domain: DomainEvidence(change, *_parsed_changes(first[domain], then[domain]))
        for domain, change in changes.items()
        if domain
    }
    criteria = replace(candidate.criteria, level=level)
    return apply_gate(evidence, list(candidate.treatments), criteria)


def _parsed_changes(before: list[Record], after: list[Record]) -> tuple[int, int]:
    """Counts of answers that became unparsable and parsable."""
    first = {record.id: record.status == "ok" for record in before}
    pairs = [(first[r.id], r.status == "ok") for r in after if r.id in first]
    return sum(was and not now for was, now in pairs), sum(now and not was for was, now in pairs)


def _share_routed_right(records: list[Record], treatments: Mapping[str, DomainTreatment]) -> float:
    """The share of questions that were routed as their label would have routed them."""
    right = [
        (r.route if r.route in treatments else "") == (r.domain if r.domain in treatments else "")
        for r in records
    ]
    return sum(right) / len(right) if right else 0.0


def _control_scores(runs: Mapping[str, Run], leaks: set[str]) -> dict[str, TreatmentScore]:
    """Each run on the questions that all of them were asked."""
    records = {name: run.records() for name, run in runs.items()}
    common = set.intersection(*({r.id for r in found} for found in records.values())) - leaks
    return {
        name: score_treatment([record for record in found if record.id in common])
        for name, found in records.items()
    }


def _write_plan(
    candidate: Candidate, proof: HeldOutResult, held_out: PlanRunner, ensemble: Run
) -> Path:
    """Write the plan of what passed; of what did not pass, the plan as it was judged."""
    passed = proof.promotion.word is GateVerdict.PROMOTED
    kept = proof.promotion.kept if passed else tuple(candidate.treatments)
    info = held_out.engine().info
    name = f"{held_out.base.folder.name}-{candidate.digest[:8]}"
    folder = Workspace(candidate.run_options.workspace).plans
    routes = folder / f"{name}.routes.yaml"
    write_keywords(routes, candidate.keywords)
    plan = Plan(
        model=info.model,
        digest=info.digest,
        domains={
            domain: replace(
                candidate.treatments[domain],
                evidence=_evidence(proof, domain, held_out, ensemble),
            )
            for domain in sorted(kept)
        },
        router=routes.name,
        router_sha256=sha256(routes),
        form=candidate.form,
        verdict=proof.promotion.word.value,
        created=timestamp(),
    )
    write_plan(folder / f"{name}.yaml", plan)
    return folder / f"{name}.yaml"


def _evidence(
    proof: HeldOutResult, domain: str, held_out: PlanRunner, ensemble: Run
) -> dict[str, str | float]:
    runs: dict[str, str | float] = {
        "baseline": held_out.base.folder.name,
        "candidate": ensemble.folder.name,
    }
    if domain not in proof.change:
        return runs
    change = proof.change[domain]
    return {
        **runs,
        "n": change.n,
        "gain": round(change.difference, 4),
        "low": round(change.interval.low, 4),
        "high": round(change.interval.high, 4),
        "p_holm": proof.promotion.domains[domain].p,
    }


def _write_report(candidate: Candidate, result: ImproveResult, base: Run, ensemble: Run) -> Path:
    path = Workspace(candidate.run_options.workspace).report(ensemble.folder.name)
    write_text(path, render_html(compare_runs(base, ensemble), sections(result)))
    return path
