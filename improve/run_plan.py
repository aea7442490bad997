"""Runs of `bench run` with treatments: those of a plan file, or those that options name.

Both are the same mechanism: a plan with a routing policy. What `--rag` and `--adapter` name is a
plan that routes by label.
"""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.prompts import PromptFormat
from benchmarks.results.domain_scores import evaluate_run
from benchmarks.results.pairing import paired_changes
from benchmarks.results.run_result import RunResult
from benchmarks.runs.runner import EvalJob, EvalSettings, prepare_job
from benchmarks.runs.store import Run
from benchmarks.tasks.base import Task
from benchmarks.treatments.plan import ORACLE, RoutingPolicy
from domainlift.errors import BenchError, Misuse
from domainlift.files import safe_join, sha256
from engines.base import Engine
from ensemble.plan import DomainTreatment, Plan, read_plan
from ensemble.router.keywords import read_keywords
from ensemble.treatment import PlanResources
from improve.gates import open_or_calibrate_gates
from improve.options import RetrievalOptions, RunOptions, TreatmentOptions
from improve.plan_runner import PlanRunner
from improve.prove import keyword_routing
from improve.resources import PassageBudget, adapters_from_option, open_resources
from improve.retrieve import PASSAGE_COUNTS
from improve.score import score_job
from rag.library import KnowledgeBases, library
from rag.retrieval_gate import OPEN, Gate
from rag.search.rerank import open_reranker
from rag.search.retrieval import Retriever
from rag.treatment import Budget
from reports.terminal import print_note


@dataclass(frozen=True)
class LoadedPlan:
    """A plan that fits the model, and the router beside it."""

    plan: Plan
    routing: RoutingPolicy


def run_plan(
    path: Path,
    tasks: Sequence[Task],
    settings: EvalSettings,
    engine: Engine,
    options: RunOptions,
    *,
    asked: bool = True,
) -> RunResult:
    """Score the same questions without a treatment and with those of a plan.

    They are asked in the plan's form, unless the user `asked` for another.
    """
    _refuse_resume(options)
    loaded = load_plan(path, engine, options)
    if loaded.plan.form and not asked:
        settings = replace(settings, form=PromptFormat.parse(loaded.plan.form))
        print_note(f"asked in the form of the plan, {loaded.plan.form}")
    runner = _base_runner(prepare_job(tasks, settings, engine.info), engine, options)
    plan = loaded.plan
    budget = PassageBudget(plan.passages, plan.tokens, plan.query_options)
    with open_resources(plan.domains, engine, options.workspace, budget) as resources:
        run = runner.run("ensemble", loaded.routing, plan.domains, resources)
    return _result({"base": runner.base, "ensemble": run}, options)


def run_by_label(
    tasks: Sequence[Task],
    settings: EvalSettings,
    engine: Engine,
    options: RunOptions,
    wanted: TreatmentOptions,
) -> RunResult:
    """Score the same questions under each treatment that is wanted, alone and together.

    The treatments are `base`, `rag`, `lora` and `rag+lora`; the last is compared with the first.
    """
    _refuse_resume(options)
    job = prepare_job(tasks, settings, engine.info)
    domains = sorted({question.domain for question in job.questions})
    lora: Mapping[str, DomainTreatment] = {}
    if wanted.adapters:
        lora = adapters_from_option(wanted.adapters, engine, options.workspace, domains)
    with library(options.workspace) as knowledge_bases:
        retrievers: Mapping[str, Retriever] = {}
        if wanted.retrieval is not None:
            retrievers = _open_retrievers(domains, wanted.retrieval, knowledge_bases)
        runner = _base_runner(job, engine, options)
        resources = _resources(retrievers, lora, engine, wanted.retrieval)
        runs = {"base": runner.base}
        gates: Mapping[str, Gate] = {}
        for name, treatments in _treatments(retrievers, lora).items():
            if wanted.retrieval is not None and name != "lora":
                gates = open_or_calibrate_gates(runner, treatments, resources, wanted.retrieval)
                treatments = {
                    domain: replace(each, gate=gates.get(domain, OPEN))
                    for domain, each in treatments.items()
                }
            runs[name] = runner.run(name, ORACLE, treatments, resources)
    return replace(_result(runs, options), gates=gates, leaks=runner.leaks_of(tuple(retrievers)))


def load_plan(path: Path, engine: Engine, options: RunOptions) -> LoadedPlan:
    """Read a plan and its keywords; BenchError where either is gone or is for another model."""
    plan = read_plan(path)
    # Plans of before name the weights alone.
    known = engine.info.digest if "+" in plan.digest else engine.info.digest.partition("+")[0]
    if plan.digest != known:
        raise Misuse(
            f"plan `{path}` was made for `{plan.model}`, and `{engine.info.model}` is another "
            "model",
            f"`--model {shlex.quote(plan.model)}`, or make a plan for this one: `bench improve`",
        )
    if plan.verdict and plan.verdict != "promoted":
        print_note(f"the plan `{path}` was judged: {plan.verdict}")
    anew = "make the plan anew: `bench improve`"
    if not plan.router:
        raise BenchError(f"the plan `{path}` names no keyword file", anew)
    keywords = safe_join(path.parent, plan.router)
    if not keywords.is_file():
        raise BenchError(f"the keyword file `{keywords}` of plan `{path}` is gone", anew)
    if plan.router_sha256 and sha256(keywords) != plan.router_sha256:
        print_note(f"`{keywords}` was changed since the plan was judged")
    # A domain of a file of questions is declared nowhere.
    routing = keyword_routing(read_keywords(keywords), plan.treated, options.workspace)
    return LoadedPlan(plan, routing)


def _refuse_resume(options: RunOptions) -> None:
    if options.resume is not None:
        raise Misuse("`--resume` names one run, and this command makes several", "repeat it")


def _base_runner(job: EvalJob, engine: Engine, options: RunOptions) -> PlanRunner:
    base = score_job(job, engine, options, part="base")
    return PlanRunner.from_base_run(job, lambda: engine, options, base)


def _result(runs: dict[str, Run], options: RunOptions) -> RunResult:
    """Compare the last of the runs with the first."""
    scores = {name: evaluate_run(run, options.target) for name, run in runs.items()}
    last = next(reversed(runs))
    return RunResult(scores[last], scores["base"], scores, paired_changes(runs["base"], runs[last]))


def _treatments(
    retrievers: Mapping[str, Retriever], lora: Mapping[str, DomainTreatment]
) -> dict[str, dict[str, DomainTreatment]]:
    """Treatments of each domain, by the treatment's name; a domain may lack a part of the last."""
    rag = {
        domain: DomainTreatment("rag", knowledge_base=retriever.index.manifest.generation)
        for domain, retriever in retrievers.items()
    }
    made: dict[str, dict[str, DomainTreatment]] = {}
    if rag:
        made["rag"] = rag
    if lora:
        made["lora"] = dict(lora)
    if rag and lora:
        made["rag+lora"] = {
            **rag,
            **{
                domain: replace(
                    each,
                    treatment="rag+lora" if domain in rag else "lora",
                    knowledge_base=rag[domain].knowledge_base if domain in rag else "",
                )
                for domain, each in lora.items()
            },
        }
    return made


def _open_retrievers(
    asked: Sequence[str], wanted: RetrievalOptions, knowledge_bases: KnowledgeBases
) -> dict[str, Retriever]:
    """Open the knowledge base of every domain that is asked and has one."""
    built = knowledge_bases.names()
    names = wanted.domains if wanted.domains else tuple(sorted(set(asked) & set(built)))
    missing = [name for name in names if name not in built]
    if missing or not names:
        listed = ", ".join(f"`{name}`" for name in (missing or asked)[:5])
        first = missing[0] if len(missing) == 1 else "--all"
        raise BenchError(f"no knowledge base for {listed}", f"`bench kb build {first}`")
    reranker = wanted.retrieval.reranker
    rerank = open_reranker(reranker) if reranker is not None else None
    return {name: knowledge_bases.open(name, wanted.retrieval, rerank) for name in names}


def _resources(
    retrievers: Mapping[str, Retriever],
    lora: Mapping[str, DomainTreatment],
    engine: Engine,
    wanted: RetrievalOptions | None,
) -> PlanResources:
    adapters = {domain: each.adapter for domain, each in lora.items()}
    if wanted is None:
        return PlanResources(retrievers, adapters, Budget(engine.count))
    k = wanted.k if wanted.k is not None else max(PASSAGE_COUNTS)
    return PlanResources(
        retrievers, adapters, Budget(engine.count, k, wanted.tokens), wanted.options
    )
