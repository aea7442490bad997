"""`bench run --plan`: the base model, and the ensemble as the plan has it."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from domainlift.errors import BenchError, Misuse
from improve.plan_runner import PlanRunner
from improve.resources import PassageBudget, open_resources
from improve.score import RunOptions, score_job

if TYPE_CHECKING:
    from benchmarks.results.run_result import RunResult
    from benchmarks.runs.runner import EvalSettings
    from benchmarks.tasks.base import Task
    from benchmarks.treatments.plan import RoutingPolicy
    from engines.base import Engine
    from ensemble.plan import Plan


@dataclass(frozen=True)
class LoadedPlan:
    """A plan that fits the model, and the router beside it."""

    plan: Plan
    route: RoutingPolicy


def open_plan(path: Path, engine: Engine, place: RunOptions) -> LoadedPlan:
    """Read a plan and its keywords; BenchError where either is gone or another one."""
    from domainlift.files import safe_join, sha256
    from ensemble.plan import read_plan
    from ensemble.router.keywords import read_keywords
    from improve.prove import router
    from knowledge_bases.domains import load_domains

    plan = read_plan(path)
    _check_model(path, plan, engine)
    if plan.verdict and plan.verdict != "promoted":
        print(f"note: the plan `{path}` was judged: {plan.verdict}", file=sys.stderr)
    anew = "make the plan anew: `bench improve`"
    if not plan.router:
        raise BenchError(f"the plan `{path}` names no keyword file", anew)
    keywords = safe_join(path.parent, plan.router)
    if not keywords.is_file():
        raise BenchError(f"the keyword file `{keywords}` of plan `{path}` is gone", anew)
    if plan.router_sha256 and sha256(keywords) != plan.router_sha256:
        print(f"note: `{keywords}` was changed since the plan was judged", file=sys.stderr)
    return LoadedPlan(
        plan, router(read_keywords(keywords, load_domains(place.workspace)), plan.treated)
    )


def run_plan(
    path: Path, tasks: Sequence[Task], settings: EvalSettings, engine: Engine, place: RunOptions
) -> RunResult:
    """Score the same questions without a treatment and with those of a plan."""
    from benchmarks.results.domain_scores import evaluate_run
    from benchmarks.results.pairing import paired_changes
    from benchmarks.results.run_result import RunResult
    from benchmarks.runs.runner import prepare_job

    if place.resume is not None:
        raise Misuse("`--resume` names one run, and this command makes several", "repeat it")
    opened = open_plan(path, engine, place)
    job = prepare_job(tasks, settings, engine.info)
    base = score_job(job, engine, place, part="base")
    asker = PlanRunner.from_base_run(job, lambda: engine, place, base)
    plan = opened.plan
    limits = PassageBudget(plan.passages, plan.tokens, plan.query_options)
    with open_resources(plan.domains, engine, place.workspace, limits) as means:
        run = asker.run("ensemble", opened.route, plan.domains, means)
    before, after = (evaluate_run(each, place.target) for each in (asker.base, run))
    arms = {"base": before, "ensemble": after}
    return RunResult(after, before, arms, paired_changes(asker.base, run))


def _check_model(path: Path, plan: Plan, engine: Engine) -> None:
    info = engine.info
    if plan.digest != info.digest:
        raise Misuse(
            f"plan `{path}` was made for `{plan.model}`, and `{info.model}` is another model",
            f"`--model {plan.model}`, or make a plan for this one: `bench improve`",
        )
