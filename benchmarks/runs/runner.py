"""Runner: asks the questions without an answer, and stores each answer as it comes."""

from __future__ import annotations

import hashlib
import re
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace
from itertools import count
from typing import Any

from benchmarks.prompts import PromptBuilder, PromptFormat
from benchmarks.runs.evaluate_task import AnswerCache, evaluate_task
from benchmarks.runs.identity import identity_differences
from benchmarks.runs.store import Record, Run, RunManifest, RunStore
from benchmarks.scoring.forms import FormScore
from benchmarks.scoring.letter_prior import read_letter_prior
from benchmarks.scoring.metric_registry import signatures
from benchmarks.tasks.base import Task
from benchmarks.treatments.base import BASE_POLICY, TreatmentPolicy
from domainlift import __version__
from domainlift.errors import Misuse
from domainlift.files import timestamp
from domainlift.sampling import duplicate_ids, stratified
from domainlift.types import Question, Treatment
from engines.base import Engine, EngineInfo, Mode, Status

OnRecord = Callable[[Record], None]


@dataclass(frozen=True)
class EvalSettings:
    """What a user may choose; None leaves the choice to the suite or the task.

    `form` is how every task is asked that can be asked by letters, whatever else is chosen, and
    `tried_forms` are the scores that it was chosen by. `max_tokens` is the limit of replies, which
    are graded by `metrics`.
    `command` is how it was said, for the record.
    """

    suite: str
    mode: Mode | None = None
    shots: int | None = None
    chat: bool = False
    form: PromptFormat | None = None
    tried_forms: Mapping[str, FormScore] = field(default_factory=dict)
    limit: int | None = None
    seed: int = 0
    max_tokens: int | None = None
    domains: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ()
    command: str = ""


@dataclass(frozen=True)
class EvalJob:
    """Tasks, how each is asked, and the questions chosen from them, in the order of the tasks."""

    settings: EvalSettings
    tasks: tuple[Task, ...]
    formats: Mapping[str, PromptFormat]
    questions: tuple[Question, ...]
    policy: TreatmentPolicy = BASE_POLICY


def prepare_job(tasks: Sequence[Task], settings: EvalSettings, info: EngineInfo) -> EvalJob:
    """Choose questions and formats; Misuse where nothing is left to ask or it cannot be asked."""
    if settings.chat and not info.has_chat_template:
        raise Misuse(
            f"model `{info.model}` has no chat template", "score it as plain text: `--no-chat`"
        )
    questions = [q for task in tasks for q in task.questions]
    twice = duplicate_ids(questions)
    if twice:
        raise Misuse(
            f"{len(twice)} questions stand there more than once, `{min(twice)}` for one",
            "name each task once, and give each question of a file an `id` of its own",
        )
    if settings.domains:
        questions = [q for q in questions if q.domain in settings.domains]
    if settings.limit is not None:
        questions = stratified(questions, settings.limit, settings.seed)
    if not questions:
        raise Misuse(
            "no question is left to ask",
            "widen `--domains`, raise `--limit`, or see what there is: `bench domains`",
        )
    if not settings.chat and any(q.tools or q.messages for q in questions):
        what = "questions have `tools` or `messages`, which only a chat is given"
        raise Misuse(what, "ask them with `--chat`")
    asked = {q.task for q in questions}
    own = [task for task in tasks if task.name in asked]
    forms = {task.name: _form(task, settings, info) for task in own}
    chosen = tuple(_limited(task, forms[task.name], settings.max_tokens) for task in own)
    for task in chosen:
        # What cannot be asked fails here, before a folder is made for it.
        PromptBuilder(task, forms[task.name])
    return EvalJob(settings, chosen, forms, tuple(questions))


def has_forms(task: Task) -> bool:
    """Whether a task can be asked in several forms: by letters, and otherwise too."""
    return Mode.LETTER in task.modes and not task.prerendered


def scoring_fallbacks(job: EvalJob, info: EngineInfo) -> list[str]:
    """Sentences on tasks that are scored in another way than their own, for the engine's sake."""
    changed = Counter(
        (task.mode, job.formats[task.name].mode)
        for task in job.tasks
        if task.mode not in info.modes and job.settings.mode is None and job.settings.form is None
    )
    return [
        f"{count} tasks are scored by `{used}`, because engine `{info.engine}` cannot score "
        f"by `{own}`"
        for (own, used), count in changed.items()
    ]


def run_fingerprint(job: EvalJob, info: EngineInfo) -> dict[str, str]:
    """What must agree for a stored answer to stand for a new one."""
    options = sorted((key, repr(value)) for key, value in info.options.items())
    return {
        "model": info.digest,
        "engine": _hash([info.engine, *options]),
        "treatment": job.policy.digest,
        "data": _hash([task.digest for task in job.tasks]),
        "questions": _hash([q.id for q in job.questions]),
        "prompts": _hash([job.formats[task.name].digest(task) for task in job.tasks]),
    }


def open_run(
    job: EvalJob,
    info: EngineInfo,
    store: RunStore,
    *,
    fresh: bool = False,
    resume: str | None = None,
) -> Run:
    """The run that these settings continue, or a new one.

    The name of a run contains a hash of its fingerprint, so the same command finds the same run.
    With `resume` that run must fit; a mismatch is an error that names what differs.
    """
    prints = run_fingerprint(job, info)
    if resume is not None:
        run = store.get(resume)
        differing = identity_differences(run.manifest, prints, info)
        if differing:
            raise Misuse(
                f"run `{resume}` was made with other settings: {', '.join(differing)}",
                f"repeat its own command (`bench runs show {resume}`), "
                "or start a new run without `--resume`",
            )
        return run
    suite, model = _slug(job.settings.suite), _slug(info.model)
    name = first = f"{suite}-{model}-{_hash(sorted(prints.items()))[:8]}"
    taken, numbers = set(store.ids()), count(2)
    while fresh and name in taken:
        name = f"{first}-{next(numbers)}"
    if name in taken:
        return store.get(name)
    return store.create(_manifest(name, job, info, prints), job.questions)


def execute_run(
    job: EvalJob,
    engine: Engine,
    run: Run,
    notify: OnRecord,
    known: AnswerCache | None = None,
    *,
    refused_again: bool = False,
) -> None:
    """Ask what is open, task by task, so that prompts with a common prefix follow one another.

    Questions whose last answer was an error are asked again; those that the server refuses for
    good only with `refused_again`. The run is marked as finished when no question is left to ask.
    What `known` holds of other runs of this model is taken from there and not asked again.
    """
    start, computed = time.monotonic(), engine.forward_tokens
    with run.writing():
        done = settled(run.records(), refused_again)
        failed, answered = 0, bool(done)
        try:
            prior = read_letter_prior(run.manifest.letter_prior)
            left = _open(job, done)
            # All at once: what is done to questions may search for all of them together.
            asked_for = [q for _, questions in left for q in questions]
            treatments = zip(asked_for, job.policy.treat(asked_for), strict=True)
            treated = {q.id: treatment for q, treatment in treatments}
            for task, pairs in _parts(left, treated, engine.info):
                asked = evaluate_task(task, job.formats[task.name], pairs, engine, known, prior)
                with closing(asked) as records:
                    for record in records:
                        run.append(record)
                        failed += record.status == Status.ERROR and not record.refused
                        answered = answered or record.status != Status.ERROR
                        done.add(record.id)
                        notify(record)
        finally:
            run.finish(
                seconds=time.monotonic() - start,
                forward_tokens=engine.forward_tokens - computed,
                finished=answered and not failed and len(done) >= len(job.questions),
                notes=engine.info.notes,
            )


def settled(records: Iterable[Record], refused_again: bool = False) -> set[str]:
    """The ids of questions that need not be asked again.

    Where nothing but refusals came, another setting of the server may let them through.
    """
    answered = {r.id: r.status != Status.ERROR for r in records if r.refused or r.status != "error"}
    again = refused_again or not any(answered.values())
    return {name for name, done in answered.items() if done or not again}


def _parts(
    left: Sequence[tuple[Task, list[Question]]], treated: Mapping[str, Treatment], info: EngineInfo
) -> Iterator[tuple[Task, list[tuple[Question, Treatment]]]]:
    """What is asked together: a task; where adapters must be loaded, a task with one of them."""
    pairs = [(task, [(q, treated[q.id]) for q in questions]) for task, questions in left]
    if not info.one_adapter_at_a_time:
        yield from pairs
        return
    names = {treatment.adapter for _, part in pairs for _, treatment in part}
    for name in sorted(names, key=lambda name: "" if name is None else name):
        for task, part in pairs:
            own = [(q, treatment) for q, treatment in part if treatment.adapter == name]
            if own:
                yield task, own


def _open(job: EvalJob, done: set[str]) -> list[tuple[Task, list[Question]]]:
    by_task: dict[str, list[Question]] = defaultdict(list)
    for question in job.questions:
        if question.id not in done:
            by_task[question.task].append(question)
    return [(task, by_task[task.name]) for task in job.tasks if by_task[task.name]]


def _form(task: Task, settings: EvalSettings, info: EngineInfo) -> PromptFormat:
    """The way of scoring: as asked for, or the task's own, or the next one that the engine can."""
    if settings.form is not None and has_forms(task):
        # Questions of a train split, or made of documents, have no examples.
        return replace(settings.form, shots=min(settings.form.shots, len(task.examples)))
    wanted = settings.mode if settings.mode in task.modes else None
    if wanted is not None and wanted not in info.modes:
        raise Misuse(
            f"engine `{info.engine}` cannot score by `{wanted}`",
            "it can: " + ", ".join(f"`--scoring {mode}`" for mode in sorted(info.modes)),
        )
    order = (wanted, task.mode, Mode.LETTER, Mode.GENERATE)
    mode = next((m for m in order if m in task.modes and m in info.modes), None)
    if mode is None:
        raise Misuse(
            f"engine `{info.engine}` cannot score task `{task.name}`, which needs "
            + " or ".join(f"`{m}`" for m in sorted(task.modes)),
            "score it in this process: give a name of the hub or a folder to `--model`",
        )
    shots = settings.shots if settings.shots is not None else task.shots
    return PromptFormat(mode, shots, settings.chat)


def _limited(task: Task, form: PromptFormat, max_tokens: int | None) -> Task:
    """The task with the limit of its replies that the user chose."""
    if max_tokens is None or form.mode is not Mode.GENERATE:
        return task
    return replace(task, max_tokens=max_tokens)


def _manifest(name: str, job: EvalJob, info: EngineInfo, prints: dict[str, str]) -> RunManifest:
    settings: dict[str, Any] = {
        "command": job.settings.command,
        "treatment": job.policy.name,
        "chat": any(form.chat for form in job.formats.values()),
        "limit": job.settings.limit,
        "seed": job.settings.seed,
        "max_tokens": job.settings.max_tokens,
        "domains": list(job.settings.domains),
        "tasks": {
            task.name: {
                "scoring": form.name if form.debias else form.mode.value,
                "shots": form.shots,
            }
            for task in job.tasks
            if (form := job.formats[task.name])
        },
    }
    return RunManifest(
        run=name,
        model=info.model,
        suite=job.settings.suite,
        fingerprint=prints,
        settings=settings,
        engine={
            "name": info.engine,
            "digest": info.digest,
            "context": info.context,
            "options": dict(info.options),
            "notes": list(info.notes),
        },
        versions={"domainlift": __version__, **info.versions, **_signatures(job)},
        questions=len(job.questions),
        created=timestamp(),
    )


def _signatures(job: EvalJob) -> dict[str, str]:
    """How the answers are graded, by metric."""
    made: dict[str, str] = {}
    for task in job.tasks:
        questions = [q for q in job.questions if q.task == task.name]
        made |= signatures(task.scorer.metrics, questions)
    return made


def _slug(text: str) -> str:
    """What a folder may be called on every system."""
    tail = text.replace("\\", "/").rstrip("/").split("/")[-1]
    return re.sub(r"[^a-z0-9]+", "-", tail.lower()).strip("-")[:40] or "model"


def _hash(parts: Sequence[object]) -> str:
    return hashlib.sha256(repr(parts).encode()).hexdigest()
