"""Stage "score": runs that are found or made while the user watches, and the noise of a retest."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from benchmarks.held_out.split import validation_job
from benchmarks.results.improve_result import RetestNoise
from benchmarks.runs.ask_letter_prior import ask_letter_prior, prior_questions
from benchmarks.runs.evaluate_task import AnswerCache
from benchmarks.runs.identity import similar_run
from benchmarks.runs.runner import EvalJob, execute_run, open_run, scoring_fallbacks, settled
from benchmarks.runs.store import Record, Run, RunStore
from benchmarks.treatments.base import BASE_POLICY
from domainlift.errors import BenchError, Interrupted
from domainlift.sampling import stratified
from domainlift.stats.intervals import wilson
from domainlift.types import Question
from engines.base import Engine, Mode
from improve.options import RunOptions
from knowledge_bases.domains import load_domains
from reports.progress import ProgressBar
from reports.terminal import duration, print_note

if TYPE_CHECKING:
    from improve.plan_runner import PlanRunner

#: Questions that are asked twice, to know how often the same model answers otherwise.
RETEST_QUESTIONS = 100


def score_job(
    job: EvalJob,
    engine: Engine,
    options: RunOptions,
    *,
    part: str = "",
    known: AnswerCache | None = None,
    letter_prior: bool = True,
) -> Run:
    """Find or create the run of a job and answer its open questions.

    `part` names one of a command's several runs; those are resumed by repeating the command.
    `letter_prior` says whether that of letters is estimated. Raises Interrupted at Ctrl-C.
    """
    store = RunStore(options.workspace)
    run = open_run(job, engine.info, store, fresh=options.fresh, resume=options.resume)
    _store_tried_forms(job, run)
    notes = engine.info.notes
    if not part:
        similar = similar_run(store, run, engine.info) if not run.records() else ""
        _print_notes([*notes, *scoring_fallbacks(job, engine.info), *filter(None, [similar])])
    # A person who names a run may have changed what its server refuses.
    again = options.resume is not None and any(record.refused for record in run.records())
    if not run.manifest.finished or again:
        spare = _validation_questions(job, engine, options) if letter_prior else None
        _execute(job, engine, run, spare, part, known, again)
        # A server may show only when asked what it cannot do.
        _print_notes(note for note in engine.info.notes if note not in notes)
    elif not part:
        print_note(
            f"this is the stored run `{run.manifest.run}` of {run.manifest.created}; "
            "`--fresh` asks anew"
        )
    return run


def _store_tried_forms(job: EvalJob, run: Run) -> None:
    """Keep with the run what its form was chosen by."""
    tried = {form: asdict(score) for form, score in job.settings.tried_forms.items()}
    if tried and run.manifest.tried_forms != tried:
        with run.writing():
            run.amend(tried_forms=tried)


def retest(runner: PlanRunner, questions: tuple[Question, ...], name: str) -> Run:
    """Ask the base model the same questions again, in a run that takes over no answers."""
    policy = replace(BASE_POLICY, name=name, digest=name)
    job = replace(runner.job, questions=questions, policy=policy)
    return score_job(job, runner.engine(), runner.options, part=f"asked again, {name}")


def retest_noise(runner: PlanRunner) -> RetestNoise:
    """Measure on a sample how often the base model changes its answer when asked again."""
    sample = tuple(stratified(runner.job.questions, RETEST_QUESTIONS, seed=1))
    again = {record.id: record.correct for record in retest(runner, sample, "noise").records()}
    pairs = [(r.correct, again[r.id]) for r in runner.base.records() if r.id in again]
    answered = [(one, two) for one, two in pairs if one is not None and two is not None]
    flips = sum(one != two for one, two in answered)
    return RetestNoise(len(answered), flips, wilson(flips, len(answered)))


def _print_notes(notes: Iterable[str]) -> None:
    for note in notes:
        print_note(note)


def _find_letter_prior(
    job: EvalJob, engine: Engine, run: Run, validation: Sequence[Question]
) -> AnswerCache:
    """Estimate what the model says whatever is asked, once for a run; return what was refused."""
    questions = prior_questions(job, validation)
    refused: dict[tuple[str, str], Record] = {}
    if not questions or run.manifest.letter_prior:
        return refused
    requests = sum(len(question.options) for question in questions)
    with run.writing(), ProgressBar(requests) as progress:

        def notify(record: Record) -> None:
            progress.step("letter prior")
            name, _, order = record.id.rpartition("~")
            if record.refused and order == "0":
                refused[name, record.request_digest] = replace(record, id=name)

        prior = ask_letter_prior(job, questions, engine, notify)
        if prior is not None:
            run.amend(letter_prior=prior.as_json())
    return refused


def _validation_questions(
    job: EvalJob, engine: Engine, options: RunOptions
) -> tuple[Question, ...] | None:
    """Those of a job by letters without a treatment, () where they cannot be had; else None."""
    lettered = any(form.mode is Mode.LETTER for form in job.formats.values())
    if not lettered or job.policy.digest != BASE_POLICY.digest:
        return None
    domains = load_domains(options.workspace)
    wanted = {task.domain for task in job.tasks}
    try:
        found = validation_job(job, engine.info, options.data, domains, wanted)
    except BenchError:
        return ()
    return found.questions if found is not None else ()


def _execute(
    job: EvalJob,
    engine: Engine,
    run: Run,
    spare: Sequence[Question] | None,
    part: str,
    known: AnswerCache | None,
    again: bool,
) -> None:
    """Answer what is open and show progress; with `spare`, estimate the letters' prior before."""
    before = len(settled(run.records(), again))
    answered = 0
    try:
        if spare is not None:
            refused = _find_letter_prior(job, engine, run, spare)
            known = {**known, **refused} if known is not None and refused else known or refused
        with ProgressBar(len(job.questions), before) as progress:

            def notify(record: Record) -> None:
                nonlocal answered
                answered += 1
                progress.step(record.domain)

            execute_run(job, engine, run, notify, known, refused_again=again)
    except KeyboardInterrupt as error:
        how = "" if part else f" with `--resume {run.folder.name}`"
        raise Interrupted(
            f"stopped; {before + answered} of {len(job.questions)} answers are stored",
            f"repeat the same command{how}: it goes on where it stopped",
        ) from error
    seconds = run.manifest.seconds
    skipped = f" ({before} were stored before)" if before else ""
    rate = f", {len(job.questions) / seconds:.3g}/s" if seconds else ""
    what = f" ({part})" if part else ""
    print(
        f"Scored {len(job.questions)} questions{what} in {duration(seconds)}{rate}{skipped}",
        file=sys.stderr,
    )
