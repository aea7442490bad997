"""Choice of the form in which a model is asked, on questions that are not scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.prompts import PromptFormat
from benchmarks.results.domain_scores import evaluate_run
from benchmarks.runs.runner import has_forms, prepare_job
from benchmarks.scoring.forms import QUESTIONS, SHOTS, FormScore, best_form
from benchmarks.tasks.registry import load_optional
from domainlift.errors import BenchError
from domainlift.sampling import sample_evenly
from domainlift.text.normalise import without_copies
from engines.base import Mode
from improve.score import score_job
from knowledge_bases.domains import load_domains
from reports.terminal import print_note

if TYPE_CHECKING:
    from benchmarks.runs.runner import EvalSettings
    from benchmarks.runs.store import Run
    from benchmarks.tasks.base import Task
    from domainlift.types import Question
    from engines.base import Engine, EngineInfo
    from improve.options import RunOptions


@dataclass(frozen=True)
class FormChoice:
    """The form that is taken, None where nothing could be tried, and the scores of all by label."""

    form: PromptFormat | None
    tried: Mapping[str, FormScore]

    def in_settings(self, settings: EvalSettings) -> EvalSettings:
        """The settings with this form."""
        return replace(settings, form=self.form, tried_forms=self.tried)


def choose_form(
    tasks: Sequence[Task],
    settings: EvalSettings,
    engine: Engine,
    options: RunOptions,
    *,
    debias: bool = True,
) -> FormChoice:
    """Ask validation questions in every form that engine and tasks allow, and take the best.

    Each form is an ordinary run on the same questions, at most 100, spread over the domains: those
    of the validation split, else training questions that are not shown as examples. Without
    either, letters are taken. `debias` says whether letters may have their prior divided out.
    """
    asked = [task for task in tasks if has_forms(task)]
    if not asked:
        print_note("no task can be asked in several forms; each is asked in its own")
        return FormChoice(None, {})
    spare = _with_spare_questions(asked, settings, options)
    forms = _forms(spare, settings, engine.info)
    if not spare or not forms:
        print_note("no validation or training questions to choose a form on: asks by letters")
        return FormChoice(_letters(asked, settings, engine.info), {})
    job_settings = replace(settings, suite=f"{settings.suite}-form", limit=None)
    tried: dict[str, FormScore] = {}
    by_label: dict[str, PromptFormat] = {}
    for form in forms:
        job = prepare_job(spare, replace(job_settings, form=form), engine.info)
        made = replace(options, fresh=False, resume=None)
        run = score_job(job, engine, made, part=f"form {form.label}")
        for label, score in _scores(run, form, debias).items():
            tried[label] = score
            by_label[label] = replace(form, debias=label.startswith("letter-debiased"))
    if not tried:
        return FormChoice(_letters(asked, settings, engine.info), {})
    best = best_form(tried)
    found = tried[best]
    print_note(f"form {best}: {found.accuracy:.3f} of {found.n} questions that are not scored")
    return FormChoice(by_label[best], tried)


def _scores(run: Run, form: PromptFormat, debias: bool) -> dict[str, FormScore]:
    """The score of a form by its label; with letters also after dividing their prior out."""
    overall = evaluate_run(run).overall
    records = [record for record in run.records() if record.correct is not None]
    if overall.accuracy is None:
        return {}
    tokens = sum(r.prompt_tokens + r.output_tokens for r in records) / len(records)
    scores = {form.label: FormScore(overall.accuracy, overall.n, tokens)}
    if debias and overall.accuracy_debiased is not None and not form.chat:
        label = replace(form, debias=True).label
        scores[label] = FormScore(overall.accuracy_debiased, overall.n, tokens)
    return scores


def _forms(tasks: Sequence[Task], settings: EvalSettings, info: EngineInfo) -> list[PromptFormat]:
    """Letters and cloze with each number of examples, and letters in a chat; the cheapest first."""
    most = min((len(task.examples) for task in tasks), default=0)
    wanted = SHOTS if settings.shots is None else (settings.shots,)
    shots = sorted({min(number, most) for number in wanted})
    modes = [
        mode
        for mode in (Mode.LETTER, Mode.CLOZE)
        if mode in info.modes and all(mode in task.modes for task in tasks)
    ]
    forms = [PromptFormat(mode, number, chat=False) for number in shots for mode in modes]
    if info.has_chat_template and Mode.LETTER in modes:
        forms.append(PromptFormat(Mode.LETTER, 0, chat=True))
    return forms


def _letters(
    tasks: Sequence[Task], settings: EvalSettings, info: EngineInfo
) -> PromptFormat | None:
    if Mode.LETTER not in info.modes:
        return None
    shots = settings.shots if settings.shots is not None else min(task.shots for task in tasks)
    return PromptFormat(Mode.LETTER, shots, settings.chat)


def _with_spare_questions(
    tasks: Sequence[Task], settings: EvalSettings, options: RunOptions
) -> list[Task]:
    """The tasks with the questions on which forms are tried; tasks without any are left out."""
    domains = load_domains(options.workspace)
    scored = [question for task in tasks for question in task.questions]
    found: dict[str, tuple[Question, ...]] = {}
    for task in tasks:
        try:
            validation = load_optional(task.name, data=options.data, domains=domains)
        except BenchError:  # a mirror without that file, and no way to the hub
            validation = None
        shown = max(SHOTS) if settings.shots is None else settings.shots
        train = (example.question for example in task.examples[shown:])
        own = validation.questions if validation is not None else tuple(train)
        found[task.name] = tuple(
            q for q in own if not settings.domains or q.domain in settings.domains
        )
    spare = without_copies([q for own in found.values() for q in own], scored)
    sample = sample_evenly(spare, QUESTIONS, 5, name=lambda q: q.id, kind=lambda q: q.domain)
    return [
        replace(task, questions=own)
        for task in tasks
        if (own := tuple(q for q in sample if q.task == task.name))
    ]
