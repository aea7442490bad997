"""The probe set: questions that a version was judged by, asked through it as it is served."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.prompts import PromptFormat
from benchmarks.runs.runner import EvalJob, EvalSettings
from benchmarks.runs.store import Record, Run, RunStore
from benchmarks.tasks.registry import load_task
from domainlift.activity import activity
from domainlift.errors import BenchError
from domainlift.sampling import stratified
from domainlift.stats.drop import Drop, drop_test
from domainlift.types import Question
from engines.base import Mode
from engines.registry import EngineOptions, open_engine
from ensemble.plan import read_plan
from improve.options import RunOptions
from improve.plan_runner import PlanRunner
from improve.resources import PassageBudget, open_resources
from improve.run_plan import load_plan
from improve.score import score_job
from improve.versions.decision_log import ProbeLook
from improve.versions.promised import (
    clustered_accuracy,
    judging_runs,
    promised_answers,
    question_clusters,
)
from knowledge_bases.domains import load_domains

#: Questions of a probe set, spread over the domains.
PROBES = 400
_SUITE = "probe"


@dataclass(frozen=True)
class ProbeAnswers:
    """Whether each probe question was answered right, by its id, and what came of it as a run."""

    right: Mapping[str, bool]
    run: str = ""
    base: str = ""


def promised_probe(plan: Path, workspace: Path) -> ProbeAnswers:
    """What the runs that judged a plan promise of its probe set."""
    answers = promised_answers(read_plan(plan), workspace)
    ids = {question.id for question in _questions(plan, workspace)}
    return ProbeAnswers(_right(record for record in answers.values() if record.id in ids))


def stored_probe(run: str, workspace: Path) -> ProbeAnswers:
    """The answers of an earlier look; BenchError where its run is gone."""
    return ProbeAnswers(_right(RunStore(workspace).get(run).records()), run)


def ask_probe(plan: Path, judged: Path, workspace: Path, data: Path | None) -> ProbeAnswers:
    """Ask the probe set of the plan `judged` through another one, or the same, anew.

    Raises Misuse where the base model is not the plan's.
    """
    model, job = read_plan(plan).model, _job(judged, workspace, data)
    with activity(f"loading `{model}`"):
        engine = open_engine(model, EngineOptions())
    with closing(engine), activity("asking the probe set"):
        options = RunOptions(workspace, data, fresh=True)
        loaded = load_plan(plan, engine, options)
        base = score_job(job, engine, options, part="probe, base")
        runner = PlanRunner.from_base_run(job, lambda: engine, options, base)
        made = loaded.plan
        budget = PassageBudget(made.passages, made.tokens, made.query_options)
        with open_resources(made.domains, engine, workspace, budget) as resources:
            run = runner.run(_SUITE, loaded.routing, made.domains, resources)
    return ProbeAnswers(_right(run.records()), run.folder.name, base.folder.name)


def compare_probes(
    before: ProbeAnswers,
    looks: Sequence[ProbeAnswers],
    workspace: Path,
    level: float,
    without: Collection[str] = (),
) -> Drop:
    """Test looks, the newest last, for a drop against stored answers.

    Only questions count that all of them answered; those `without` are left out.
    """
    common = set(before.right).intersection(*(each.right for each in looks)) - set(without)
    ids = sorted(common)
    if not ids:
        raise BenchError("no question of the probe set was answered in all looks")
    clusters = question_clusters(looks[-1].run, workspace)
    return drop_test(
        [before.right[each] for each in ids],
        [[look.right[each] for each in ids] for look in looks],
        [clusters.get(each, "") for each in ids],
        level,
    )


def probe_look(
    kind: str, version: str, asked: ProbeAnswers, drop: Drop, workspace: Path
) -> ProbeLook:
    """A look for the log: its score, and what the test says."""
    accuracy, interval = clustered_accuracy(asked.right, asked.run, workspace)
    return ProbeLook(
        version=version,
        run=asked.run,
        kind=kind,
        n=len(asked.right),
        accuracy=accuracy,
        interval=interval,
        baseline=round(drop.baseline, 4),
        p=drop.p,
        level=drop.level,
        seen=drop.seen,
    )


def touched_probes(plan: Path, labels: Mapping[str, Collection[str]], workspace: Path) -> set[str]:
    """The probe questions whose answer stands in a changed document, by the labels of a domain."""
    return {
        question.id
        for question in _questions(plan, workspace)
        for label in labels.get(question.domain, ())
        if _in_file(question.support, label)
    }


def _in_file(support: str, label: str) -> bool:
    return bool(support) and (support.partition("#")[0] == label or support == label)


def _questions(plan: Path, workspace: Path) -> list[Question]:
    """The questions that a plan was judged by, without those in a knowledge base, as a sample."""
    clean = promised_answers(read_plan(plan), workspace)
    run = _judged_run(plan, workspace)
    return stratified([q for q in run.questions() if q.id in clean], PROBES, seed=3)


def _judged_run(plan: Path, workspace: Path) -> Run:
    name = judging_runs(read_plan(plan))[1]
    if name not in RunStore(workspace).ids():
        hint = "`bench improve` makes a version that has one"
        gone = f"the run `{name}` that judged `{plan.name}` is gone"
        raise BenchError(gone if name else f"no run has judged `{plan.name}`", hint)
    return RunStore(workspace).get(name)


def _job(plan: Path, workspace: Path, data: Path | None) -> EvalJob:
    """The probe set, asked as it was when the plan was judged."""
    settings = _judged_run(plan, workspace).manifest.settings
    questions = _questions(plan, workspace)
    domains = load_domains(workspace)
    tasks, formats = [], {}
    for name, form in settings["tasks"].items():
        own = tuple(question for question in questions if question.task == name)
        if own:
            task = load_task(name, data=data, domains=domains)
            tasks.append(replace(task, questions=own))
            parsed = PromptFormat.parse(f"{form['scoring']}/{form['shots']}")
            chat = bool(settings.get("chat")) and parsed.mode is not Mode.CLOZE
            formats[name] = replace(parsed, chat=chat)
    # A version that this run will judge is made anew by the command that made this one.
    command = settings.get("command", "")
    chosen = EvalSettings(_SUITE, seed=settings.get("seed", 0), command=command)
    return EvalJob(chosen, tuple(tasks), formats, tuple(questions))


def _right(records: Iterable[Record]) -> dict[str, bool]:
    return {each.id: each.correct for each in records if each.correct is not None}
