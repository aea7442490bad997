"""The last stages of `bench improve`: a router, held-out questions, the gate, plan and report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from domainlift.workspace import Workspace
from improve.plan_runner import PlanRunner
from improve.resources import open_resources
from improve.score import RunOptions

if TYPE_CHECKING:
    from benchmarks.held_out.gate import GateCriteria, Promotion
    from benchmarks.held_out.ledger import HeldOutUse
    from benchmarks.results.improve_result import HeldOutResult, ImproveResult, TreatmentScore
    from benchmarks.runs.store import Record, Run
    from benchmarks.treatments.plan import RoutingPolicy
    from domainlift.stats.paired import Paired
    from domainlift.types import Question
    from ensemble.plan import DomainTreatment
    from ensemble.router.keywords import Keywords
    from ensemble.router.router import RouteDecision
    from ensemble.treatment import PlanResources

#: Held-out questions on which other ways of sending them are tried, and selection questions on
#: which the best single treatment is found: they decide nothing, and cost as much as the rest.
CONTROLS, SINGLES = 1_000, 300


@dataclass(frozen=True)
class Candidate:
    """What is proven: the treatments of each domain, and the router that chooses among them.

    `tested` has a digest of each task's data, by which looks at its questions are counted.
    """

    cares: Mapping[str, DomainTreatment]
    keywords: Keywords
    place: RunOptions
    terms: GateCriteria
    tested: Mapping[str, str]

    @property
    def digest(self) -> str:
        """What tells this candidate from another."""
        parts = (sorted(self.cares.items()), _content(self.keywords))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def evaluate_on_held_out(
    proving: Candidate, done: ImproveResult, selection: PlanRunner, final: PlanRunner
) -> ImproveResult:
    """Judge the ensemble on questions that were never asked before; write plan and report.

    The look is written down before it is made. The best single treatment is chosen on selection
    questions, as the others were.
    """
    route = router(proving.keywords, tuple(proving.cares))
    with open_resources(proving.cares, final.engine(), proving.place.workspace) as means:
        single = _best_single(proving, selection, means)
        look = _look(proving, final)
        ours = final.run("ensemble", route, proving.cares, means)
        others = _others(proving, final, means, single, ours)
    proof = _proof(proving, final, ours, others, look)
    plan = _plan(proving, proof, final, ours)
    named = {"held out, base": final.base.folder.name, "held out, ensemble": ours.folder.name}
    done = replace(done, proof=proof, plan=plan, runs={**done.runs, **named})
    return replace(done, report=_report(proving, done, final.base, ours))


def router(keywords: Keywords, targets: Sequence[str]) -> RoutingPolicy:
    """Send each question to one of the domains, or to none, as its words say."""
    from benchmarks.treatments.plan import RoutingPolicy
    from ensemble.router.router import Router

    fitted = Router(keywords, targets)
    decisions: dict[str, RouteDecision] = {}

    def send(question: Question) -> RouteDecision:
        if question.id not in decisions:
            decisions[question.id] = fitted.route(question.text, question.options)
        return decisions[question.id]

    return RoutingPolicy(f"keywords {_content(keywords)}: {', '.join(targets)}", send)


def _content(keywords: Keywords) -> str:
    """A digest of what decides, without when and on what it was fitted."""
    return replace(keywords, fitted={}).digest


def _look(proving: Candidate, final: PlanRunner) -> HeldOutUse:
    from benchmarks.held_out.ledger import HeldOutLedger, HeldOutSet

    asked = HeldOutSet(proving.tested, [question.id for question in final.job.questions])
    return HeldOutLedger(proving.place.workspace).record_use(
        asked,
        proving.digest,
        proving.terms.level,
        run=final.base.folder.name,
        decision="promote or reject a plan",
    )


def _best_single(proving: Candidate, selection: PlanRunner, means: PlanResources) -> str:
    """The domain whose treatment, given to every question, serves all of them best."""
    from benchmarks.treatments.plan import constant_policy
    from improve.select import score_treatment

    found = {}
    sample = selection.sample(SINGLES)
    for domain in sorted(proving.cares):
        title = f"all as {domain}"
        run = sample.run(title, constant_policy(domain), proving.cares, means)
        found[domain] = score_treatment(run.records()).accuracy
    return max(found, key=lambda domain: found[domain])


def _others(
    proving: Candidate, final: PlanRunner, means: PlanResources, single: str, ours: Run
) -> dict[str, Run]:
    """What else could have been done with the same treatments, on a sample where there are many."""
    from benchmarks.treatments.plan import ORACLE, constant_policy, random_policy

    cares = proving.cares
    ways: dict[str, RoutingPolicy] = {
        "route by label": ORACLE,
        "route at random": random_policy(list(cares)),
        f"all as {single}": constant_policy(single),
    }
    sample = final.sample(CONTROLS)
    runs = {name: sample.run(name, way, cares, means) for name, way in ways.items()}
    return {"base": final.base, "ensemble": ours, **runs}


def _proof(
    proving: Candidate, final: PlanRunner, ours: Run, runs: Mapping[str, Run], look: HeldOutUse
) -> HeldOutResult:
    """Compare with the base model; questions that stand in a knowledge base prove nothing."""
    from benchmarks.results.improve_result import HeldOutResult
    from benchmarks.results.pairing import paired_record_changes
    from benchmarks.treatments.passages import contaminated_ids

    every = ours.records()
    leaks = contaminated_ids(every)
    after = [record for record in every if record.id not in leaks]
    before = [record for record in final.base.records() if record.id not in leaks]
    change = paired_record_changes(before, after, {q.id: q for q in final.job.questions})
    return HeldOutResult(
        change=change,
        promotion=_judged(proving, change, before, after, look.level),
        controls=_controls(runs, leaks),
        routed=_rightly_routed(every, proving.cares),
        look=look.number,
        level=look.level,
        due=look.exhausted,
        leaked=len(leaks),
    )


def _judged(
    proving: Candidate,
    changes: Mapping[str, Paired],
    before: list[Record],
    after: list[Record],
    level: float,
) -> Promotion:
    from benchmarks.held_out.gate import DomainEvidence, apply_gate
    from improve.triage import by_domain

    first, then = by_domain(before), by_domain(after)
    judged = {
        domain: DomainEvidence(change, *_readable(first[domain], then[domain]))
        for domain, change in changes.items()
        if domain
    }
    return apply_gate(judged, list(proving.cares), replace(proving.terms, level=level))


def _readable(before: list[Record], after: list[Record]) -> tuple[int, int]:
    """How many answers can no longer be read, and how many could not be before."""
    first = {record.id: record.status == "ok" for record in before}
    pairs = [(first[r.id], r.status == "ok") for r in after if r.id in first]
    return sum(was and not now for was, now in pairs), sum(now and not was for was, now in pairs)


def _rightly_routed(records: list[Record], cares: Mapping[str, DomainTreatment]) -> float:
    """The share of questions that were sent to where the label would have sent them."""
    right = [
        (r.route if r.route in cares else "") == (r.domain if r.domain in cares else "")
        for r in records
    ]
    return sum(right) / len(right) if right else 0.0


def _controls(runs: Mapping[str, Run], leaks: set[str]) -> dict[str, TreatmentScore]:
    """Each way on the questions that all of them were asked."""
    from improve.select import score_treatment

    records = {name: run.records() for name, run in runs.items()}
    asked = ({record.id for record in found} for found in records.values())
    common = set.intersection(*asked) - leaks
    return {
        name: score_treatment([record for record in found if record.id in common])
        for name, found in records.items()
    }


def _plan(proving: Candidate, proof: HeldOutResult, final: PlanRunner, ours: Run) -> Path:
    """Write the plan of what passed; of what did not pass, the plan as it was judged."""
    from benchmarks.held_out.gate import GateVerdict
    from ensemble.plan import Plan, write_plan
    from ensemble.router.keywords import write_keywords

    passed = proof.promotion.word is GateVerdict.PROMOTED
    kept = proof.promotion.kept if passed else tuple(proving.cares)
    info = final.engine().info
    name = f"{final.base.folder.name}-{proving.digest[:8]}"
    folder = _make_folder(Workspace(proving.place.workspace).plans)
    routes = folder / f"{name}.routes.yaml"
    write_keywords(routes, proving.keywords)
    from domainlift.files import sha256

    plan = Plan(
        model=info.model,
        digest=info.digest,
        domains={
            domain: replace(proving.cares[domain], evidence=_evidence(proof, domain, final, ours))
            for domain in sorted(kept)
        },
        router=routes.name,
        router_sha256=sha256(routes),
        verdict=proof.promotion.word.value,
        created=datetime.now(UTC).isoformat(timespec="seconds"),
    )
    write_plan(folder / f"{name}.yaml", plan)
    return folder / f"{name}.yaml"


def _evidence(
    proof: HeldOutResult, domain: str, final: PlanRunner, ours: Run
) -> dict[str, str | float]:
    runs: dict[str, str | float] = {
        "baseline": final.base.folder.name,
        "candidate": ours.folder.name,
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


def _make_folder(folder: Path) -> Path:
    from domainlift.files import disk_errors

    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _report(proving: Candidate, done: ImproveResult, base: Run, ours: Run) -> Path:
    from benchmarks.results.comparison import compare_runs
    from domainlift.files import write_text
    from reports.compare_html import render_html
    from reports.improve import sections

    path = Workspace(proving.place.workspace).report(ours.folder.name)
    _make_folder(path.parent)
    write_text(path, render_html(compare_runs(base, ours), sections(done)))
    return path
