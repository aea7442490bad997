"""The last stages of `bench improve`: a router, held-out questions, the gate, plan and report."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from improve.plan_runner import Asker
from improve.resources import open_means
from improve.score import Place

if TYPE_CHECKING:
    from benchmarks.held_out.gate import Promotion, Terms
    from benchmarks.held_out.ledger import Look
    from benchmarks.runs.store import Record, Run
    from benchmarks.treatments.plan import Route
    from domainlift.statistics import Paired
    from domainlift.types import Question
    from ensemble.plan import Care
    from ensemble.router.keywords import Keywords
    from ensemble.treatment import Means, Routed
    from improve.result import Improved, Proof
    from improve.select import Arm

#: Held-out questions on which other ways of sending them are tried, and selection questions on
#: which the best single treatment is found: they decide nothing, and cost as much as the rest.
CONTROLS, SINGLES = 1_000, 300


@dataclass(frozen=True)
class Proving:
    """What is proven: the treatments of each domain, and the router that chooses among them.

    `tested` has a digest of each task's data, by which looks at its questions are counted.
    """

    cares: Mapping[str, Care]
    keywords: Keywords
    place: Place
    terms: Terms
    tested: Mapping[str, str]

    @property
    def digest(self) -> str:
        """What tells this candidate from another."""
        parts = (sorted(self.cares.items()), _content(self.keywords))
        return hashlib.sha256(repr(parts).encode()).hexdigest()[:12]


def prove(proving: Proving, done: Improved, selection: Asker, final: Asker) -> Improved:
    """Judge the ensemble on questions that were never asked before; write plan and report.

    The look is written down before it is made. The best single treatment is chosen on selection
    questions, as the others were.
    """
    route = router(proving.keywords, tuple(proving.cares))
    with open_means(proving.cares, final.engine(), proving.place.workspace) as means:
        single = _best_single(proving, selection, means)
        look = _look(proving, final)
        ours = final.ask("ensemble", route, proving.cares, means)
        others = _others(proving, final, means, single, ours)
    proof = _proof(proving, final, ours, others, look)
    plan = _plan(proving, proof, final, ours)
    named = {"held out, base": final.base.folder.name, "held out, ensemble": ours.folder.name}
    done = replace(done, proof=proof, plan=plan, runs={**done.runs, **named})
    return replace(done, report=_report(proving, done, final.base, ours))


def router(keywords: Keywords, targets: Sequence[str]) -> Route:
    """Send each question to one of the domains, or to none, as its words say."""
    from benchmarks.treatments.plan import Route
    from ensemble.router.router import Router
    from ensemble.treatment import Routed

    found = Router(keywords, targets)
    known: dict[str, Routed] = {}

    def send(question: Question) -> Routed:
        if question.id not in known:
            decided = found.route(question.text, question.options)
            domain = decided.domain if decided.domain is not None else ""
            matched = tuple(term for term, _ in decided.matched)
            known[question.id] = Routed(domain, decided.rung, matched)
        return known[question.id]

    return Route(f"keywords {_content(keywords)}: {', '.join(targets)}", send)


def _content(keywords: Keywords) -> str:
    """A digest of what decides, without when and on what it was fitted."""
    return replace(keywords, fitted={}).digest


def _look(proving: Proving, final: Asker) -> Look:
    from benchmarks.held_out.ledger import Asked, Ledger

    asked = Asked(proving.tested, [question.id for question in final.job.questions])
    return Ledger(proving.place.workspace).look(
        asked,
        proving.digest,
        proving.terms.level,
        run=final.base.folder.name,
        decision="promote or reject a plan",
    )


def _best_single(proving: Proving, selection: Asker, means: Means) -> str:
    """The domain whose treatment, given to every question, serves all of them best."""
    from benchmarks.treatments.plan import always
    from improve.select import arm

    found = {}
    sample = selection.sample(SINGLES)
    for domain in sorted(proving.cares):
        title = f"all as {domain}"
        run = sample.ask(title, always(domain), proving.cares, means)
        found[domain] = arm(run.records()).accuracy
    return max(found, key=lambda domain: found[domain])


def _others(proving: Proving, final: Asker, means: Means, single: str, ours: Run) -> dict[str, Run]:
    """What else could have been done with the same treatments, on a sample where there are many."""
    from benchmarks.treatments.plan import BY_LABEL, always, at_random

    cares = proving.cares
    ways: dict[str, Route] = {
        "route by label": BY_LABEL,
        "route at random": at_random(list(cares)),
        f"all as {single}": always(single),
    }
    sample = final.sample(CONTROLS)
    runs = {name: sample.ask(name, way, cares, means) for name, way in ways.items()}
    return {"base": final.base, "ensemble": ours, **runs}


def _proof(proving: Proving, final: Asker, ours: Run, runs: Mapping[str, Run], look: Look) -> Proof:
    """Compare with the base model; questions that stand in a knowledge base prove nothing."""
    from benchmarks.results.pairing import pair_records
    from benchmarks.treatments.passages import leaked
    from improve.result import Proof

    every = ours.records()
    leaks = leaked(every)
    after = [record for record in every if record.id not in leaks]
    before = [record for record in final.base.records() if record.id not in leaks]
    change = pair_records(before, after, {q.id: q for q in final.job.questions})
    return Proof(
        change=change,
        promotion=_judged(proving, change, before, after, look.level),
        controls=_controls(runs, leaks),
        routed=_rightly_routed(every, proving.cares),
        look=look.number,
        level=look.level,
        due=look.due,
        leaked=len(leaks),
    )


def _judged(
    proving: Proving,
    changes: Mapping[str, Paired],
    before: list[Record],
    after: list[Record],
    level: float,
) -> Promotion:
    from benchmarks.held_out.gate import Change, judge
    from improve.triage import by_domain

    first, then = by_domain(before), by_domain(after)
    judged = {
        domain: Change(change, *_readable(first[domain], then[domain]))
        for domain, change in changes.items()
        if domain
    }
    return judge(judged, list(proving.cares), replace(proving.terms, level=level))


def _readable(before: list[Record], after: list[Record]) -> tuple[int, int]:
    """How many answers can no longer be read, and how many could not be before."""
    first = {record.id: record.status == "ok" for record in before}
    pairs = [(first[r.id], r.status == "ok") for r in after if r.id in first]
    return sum(was and not now for was, now in pairs), sum(now and not was for was, now in pairs)


def _rightly_routed(records: list[Record], cares: Mapping[str, Care]) -> float:
    """The share of questions that were sent to where the label would have sent them."""
    right = [
        (r.route if r.route in cares else "") == (r.domain if r.domain in cares else "")
        for r in records
    ]
    return sum(right) / len(right) if right else 0.0


def _controls(runs: Mapping[str, Run], leaks: set[str]) -> dict[str, Arm]:
    """Each way on the questions that all of them were asked."""
    from improve.select import arm

    records = {name: run.records() for name, run in runs.items()}
    asked = ({record.id for record in found} for found in records.values())
    common = set.intersection(*asked) - leaks
    return {
        name: arm([record for record in found if record.id in common])
        for name, found in records.items()
    }


def _plan(proving: Proving, proof: Proof, final: Asker, ours: Run) -> Path:
    """Write the plan of what passed; of what did not pass, the plan as it was judged."""
    from benchmarks.held_out.gate import Word
    from ensemble.plan import Plan, write_plan
    from ensemble.router.keywords import write_keywords

    passed = proof.promotion.word is Word.PROMOTED
    kept = proof.promotion.kept if passed else tuple(proving.cares)
    info = final.engine().info
    name = f"{final.base.folder.name}-{proving.digest[:8]}"
    folder = _folder(proving, "plans")
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


def _evidence(proof: Proof, domain: str, final: Asker, ours: Run) -> dict[str, str | float]:
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


def _folder(proving: Proving, name: str) -> Path:
    from domainlift.files import disk_errors

    folder = proving.place.workspace / name
    with disk_errors(folder):
        folder.mkdir(parents=True, exist_ok=True)
    return folder


def _report(proving: Proving, done: Improved, base: Run, ours: Run) -> Path:
    from benchmarks.results.comparison import compare
    from domainlift.files import write_text
    from reports.compare_html import render_html
    from reports.improve import sections

    path = _folder(proving, "reports") / f"{ours.folder.name}.html"
    write_text(path, render_html(compare(base, ours), sections(done)))
    return path
