"""Loop of `bench improve`: from the base model's score to a judged plan, stage by stage.

score -> choose_form -> diagnose -> retrieve -> train -> select -> route -> prove, each in the
module of its name.
Every stage finds what an interrupted one left: runs by their fingerprints, knowledge bases,
adapters and routers by what they were made of. So there is no state to keep, and the same command
goes on.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace

from benchmarks.held_out.choice import BASE, choose_treatment, compare_answers
from benchmarks.results.domain_scores import evaluate_run
from benchmarks.results.improve_result import FORM_ADAPTER, ImproveResult
from benchmarks.results.strengths import measure_strengths, protected_strengths
from benchmarks.runs.evaluate_task import AnswerCache
from benchmarks.runs.runner import prepare_job
from benchmarks.tasks.base import Task
from domainlift.activity import activity
from ensemble.plan import DomainTreatment
from ensemble.router.keywords import Keywords
from improve.choose_form import choose_better_form
from improve.context import HELD_OUT, SELECTION, ImproveContext
from improve.diagnose import diagnose, domains_to_treat, run_triage
from improve.exam.as_served import ServedAnswers, served_answers
from improve.exam.exam import VALIDATION
from improve.form_adapter import train_form_adapter
from improve.load_model import LazyEngine
from improve.notes import Notes
from improve.plan_runner import PlanRunner
from improve.prove import Candidate, evaluate_on_held_out
from improve.retrieve import build_knowledge_bases
from improve.route import fit_or_find_router
from improve.score import RETEST_QUESTIONS, retest_noise, score_job
from improve.select import TreatmentRuns, run_treatments, same_questions, score_treatment
from improve.train import train_adapters

#: Called with the result so far, after each stage that adds to it.
OnResult = Callable[[ImproveResult], None]


@dataclass
class StageTimer:
    """Seconds of each stage."""

    stages: dict[str, float] = field(default_factory=dict)

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Announce a stage and time it."""
        print(f"[{len(self.stages) + 1}] {name}", file=sys.stderr, flush=True)
        begun = time.monotonic()
        try:
            with activity(name):
                yield
        finally:
            self.stages[name] = time.monotonic() - begun


def improve(context: ImproveContext, lazy: LazyEngine, on_result: OnResult) -> ImproveResult:
    """Find weak domains, treat them, and evaluate the plan on held-out questions."""
    timer, notes, options = StageTimer(), Notes(), context.options
    if context.split.note:
        notes.add(context.split.note)
    with timer.stage("baseline"):
        own = runner = _base_runner(context, lazy, context.split.selection, SELECTION)
        form = choose_better_form(own)
        if form.form is not None:
            context = replace(context, settings=form.in_settings(context.settings))
            runner = _base_runner(context, lazy, context.split.selection, SELECTION, own.answers)
            notes.add(f"everything is asked in the form {form.form.label}, which serves best")
        scores = evaluate_run(runner.base, context.run_options.target)
        diagnosis = diagnose(scores, retest_noise(runner))
        names = domains_to_treat(context, diagnosis)
        declared = [name for name, domain in context.domains.items() if domain.protected]
        strengths = measure_strengths(runner.base.records(), runner.job.questions, declared)
        context = replace(context, strengths=tuple(protected_strengths(strengths, names)))
    model, suite = lazy.engine.info.model, context.settings.suite
    result = ImproveResult(
        model,
        suite,
        diagnosis,
        strengths=strengths,
        treated=names,
        form=form.result,
        notes=notes.lines,
        stages=timer.stages,
    )
    on_result(result)
    with timer.stage("knowledge bases"):
        passages = {} if options.skip_rag else build_knowledge_bases(context, names, notes)
    with timer.stage("triage"):
        steady = not diagnosis.noise.flips and diagnosis.noise.n >= RETEST_QUESTIONS
        triage = run_triage(context, runner, own.base, names, passages, notes, steady=steady)
    on_result(result := replace(result, triage=triage.triage))
    with timer.stage("training"):
        form_adapter = train_form_adapter(context, triage.lora, lazy, notes)
        adapters = train_adapters(context, triage.lora, lazy, notes)
    with timer.stage("selection"):
        runs = run_treatments(context, runner, triage, passages, adapters, form_adapter)
        served = _served(context, lazy, runs, notes)
        result = _select(context, result, own, names, runs, served)
    on_result(result)
    chosen = {
        domain: runs.treatments[choice.treatment][domain]
        for domain, choice in result.chosen.items()
        if choice.treatment != BASE
    }
    if not chosen:
        return result

    def candidate(keywords: Keywords) -> Candidate:
        return Candidate(
            chosen,
            keywords,
            context.run_options,
            options.criteria,
            context.task_digests,
            result.form.label,
            form_adapter,
            _of_exam(context, runs),
            options.exam,
            judged_as_served=bool(served),
        )

    return _prove(context, lazy, timer, result, runner, candidate)


def _select(
    context: ImproveContext,
    result: ImproveResult,
    own: PlanRunner,
    names: Sequence[str],
    runs: TreatmentRuns,
    served: Mapping[str, ServedAnswers],
) -> ImproveResult:
    """Choose each domain's treatment; what counts is the gain over the best form.

    Where there are `served` answers of a domain, they decide.
    """
    clusters = {q.id: q.cluster for task in context.split.selection for q in task.questions}
    return replace(
        result,
        treatments={
            domain: {treatment: score_treatment(records) for treatment, records in own.items()}
            for domain, own in runs.answers.items()
        },
        chosen={
            name: choose_treatment(
                served.get(name) or runs.candidates(name), clusters, context.options.choice
            )
            for name in names
        },
        own_form={
            domain: score_treatment(same_questions(own.base.records(), answers[BASE]))
            for domain, answers in runs.answers.items()
        },
        beyond_form={
            domain: compare_answers(answers[FORM_ADAPTER], answers["lora"], clusters)
            for domain, answers in runs.answers.items()
            if {FORM_ADAPTER, "lora"} <= answers.keys()
        },
        runs=runs.runs,
    )


def _served(
    context: ImproveContext, lazy: LazyEngine, runs: TreatmentRuns, notes: Notes
) -> dict[str, ServedAnswers]:
    """The answers to an exam as it is served, by which its domain's treatment is chosen."""
    exam = context.options.exam
    if exam is None or exam.name not in runs.answers:
        return {}
    name = exam.name
    treatments = {
        treatment: {name: runs.treatments[treatment][name]}
        for treatment in runs.candidates(name)
        if treatment != BASE
    }
    answers = served_answers(exam, VALIDATION, lazy.engine, context.run_options, treatments)
    if not answers:
        notes.add(f"{name}: no reply of any treatment is right in a chat, so likelihoods decide")
        return {}
    scores = {treatment: score_treatment(records) for treatment, records in answers.items()}
    told = ", ".join(f"{treatment} {score.accuracy:.3f}" for treatment, score in scores.items())
    notes.add(f"{name} is chosen and judged as it is served, without options in a chat: {told}")
    return {name: answers}


def _of_exam(context: ImproveContext, runs: TreatmentRuns) -> dict[str, dict[str, DomainTreatment]]:
    """What the exam's domain had under each treatment that was tried; {} without an exam."""
    exam = context.options.exam
    if exam is None:
        return {}
    return {
        treatment: {exam.name: own[exam.name]}
        for treatment, own in runs.treatments.items()
        if exam.name in own
    }


def _prove(
    context: ImproveContext,
    lazy: LazyEngine,
    timer: StageTimer,
    result: ImproveResult,
    runner: PlanRunner,
    candidate: Callable[[Keywords], Candidate],
) -> ImproveResult:
    with timer.stage("router"):
        workspace = context.run_options.workspace
        keywords = fit_or_find_router(context.labelled, context.domains, workspace)
    with timer.stage("held-out questions"):
        held_out = _base_runner(context, lazy, context.split.held_out, HELD_OUT)
        return evaluate_on_held_out(candidate(keywords), result, runner, held_out)


def _base_runner(
    context: ImproveContext,
    lazy: LazyEngine,
    tasks: Sequence[Task],
    part: str,
    known: AnswerCache | None = None,
) -> PlanRunner:
    """Run the base model on one part of the questions; what is known is not asked again."""
    name = f"{context.settings.suite}-{part.replace(' ', '-')}"
    settings = replace(context.settings, suite=name, limit=context.limit_of(part))
    job = prepare_job(tasks, settings, lazy.engine.info)
    form = f", form {settings.form.label}" if settings.form is not None else ""
    title = f"{part}, base{form}"
    base = score_job(job, lazy.engine, context.run_options, part=title, known=known)
    return PlanRunner.from_base_run(job, lambda: lazy.engine, context.run_options, base)
