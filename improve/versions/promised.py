"""What a plan promised: its answers to held-out questions, taken from the runs that judged it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from benchmarks.runs.store import Record, RunStore
from benchmarks.treatments.gate_calibration import contaminated_ids
from domainlift.errors import BenchError
from domainlift.stats.intervals import accuracy_interval
from ensemble.plan import Plan
from improve.versions.version import Evidence


def judging_runs(plan: Plan) -> tuple[str, str]:
    """The runs of the base model and of the candidate that a plan was judged by; "" for none."""
    found = [each.evidence for each in plan.domains.values() if "candidate" in each.evidence]
    if not found:
        return "", ""
    return str(found[0].get("baseline", "")), str(found[0]["candidate"])


def promised_answers(plan: Plan, workspace: Path) -> dict[str, Record]:
    """The answers to held-out questions that a plan was promoted by, by question.

    A domain that the gate did not keep is answered by the base model. {} where no run is there.
    """
    baseline, candidate = judging_runs(plan)
    store = RunStore(workspace)
    if not {baseline, candidate} <= set(store.ids()):
        return {}
    after = {record.id: record for record in store.get(candidate).records()}
    before = {record.id: record for record in store.get(baseline).records()}
    leaked = contaminated_ids(after.values())
    return {
        id_: record if record.route in plan.treated else before.get(id_, record)
        for id_, record in after.items()
        if id_ not in leaked
    }


def plan_evidence(plan: Plan, workspace: Path, report: Path | None = None) -> Evidence:
    """The evidence for a plan, from the runs that judged it, as far as they are there."""
    baseline, candidate = judging_runs(plan)
    told = str(report) if report is not None else ""
    evidence = Evidence(plan.verdict, baseline=baseline, candidate=candidate, report=told)
    answers = promised_answers(plan, workspace)
    right = {each.id: each.correct for each in answers.values() if each.correct is not None}
    if not right:
        return evidence
    accuracy, interval = clustered_accuracy(right, candidate, workspace)
    return replace(evidence, n=len(right), accuracy=accuracy, interval=interval)


def clustered_accuracy(
    right: Mapping[str, bool], run: str, workspace: Path
) -> tuple[float, tuple[float, float]]:
    """The share of right answers with its interval, by the clusters of a run's questions."""
    clusters = question_clusters(run, workspace)
    outcomes = [float(each) for each in right.values()]
    interval = accuracy_interval(outcomes, [clusters.get(each, "") for each in right])
    ends = (round(interval.low, 4), round(interval.high, 4))
    return round(sum(outcomes) / len(outcomes), 4), ends


def judging_settings(plan: Plan, workspace: Path) -> Mapping[str, Any]:
    """The settings of the run that a plan was judged by; {} where that is gone."""
    try:
        return RunStore(workspace).get(judging_runs(plan)[1]).manifest.settings
    except BenchError:
        return {}


def question_clusters(run: str, workspace: Path) -> dict[str, str]:
    """The clusters of a run's questions, by their ids."""
    return {question.id: question.cluster for question in RunStore(workspace).get(run).questions()}
