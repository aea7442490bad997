"""Choice of the form in which a model is asked, on questions that are not scored."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.prompts import PromptFormat
from benchmarks.results.domain_scores import evaluate_run
from benchmarks.results.improve_result import BestForm
from benchmarks.runs.evaluate_task import answer_cache
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
    from benchmarks.runs.store import Record, Run
    from benchmarks.tasks.base import Task
    from domainlift.types import Question, Split
    from engines.base import Engine, EngineInfo
    from improve.options import RunOptions
    from improve.plan_runner import PlanRunner
    from knowledge_bases.domains import Domain


@dataclass(frozen=True)
class FormChoice:
    """The form that is taken, None where nothing could be tried, and the scores of all by label."""

    form: PromptFormat | None
    tried: Mapping[str, FormScore]

    @property
    def result(self) -> BestForm:
        """What `bench improve` says of it."""
        return BestForm(self.form.label if self.form is not None else "", self.tried)

    def in_settings(self, settings: EvalSettings) -> EvalSettings:
        """The settings with this form."""
        return replace(settings, form=self.form, tried_forms=self.tried)


def choose_form(
    tasks: Sequence[Task],
    settings: EvalSettings,
    engine: Engine,
    options: RunOptions,
    *,
    shots: int | None = None,
    debias: bool = True,
) -> FormChoice:
    """Ask validation questions in every form that engine and tasks allow, and take the best.

    Each form is an ordinary run on the same questions, at most 100, spread over the domains: those
    of the validation split, else training questions that are not shown as examples. Without
    either, letters are taken. With `shots` each form has so many examples; `debias` says whether
    letters may have their prior divided out.
    """
    asked = [task for task in tasks if has_forms(task)]
    if not asked:
        print_note("no task can be asked in several forms; each is asked in its own")
        return FormChoice(None, {})
    numbers = SHOTS if shots is None else (shots,)
    spare = _with_spare_questions(asked, settings, options, max(numbers))
    forms = _forms(spare, numbers, engine.info)
    if not spare or not forms:
        print_note("no validation or training questions to choose a form on: asks by letters")
        return FormChoice(_letters(asked, settings, engine.info), {})
    tried = _try_forms(spare, forms, settings, engine, options, debias=debias)
    if not tried:
        return FormChoice(_letters(asked, settings, engine.info), {})
    best, found = _best(tried)
    print_note(f"form {best}: {found.accuracy:.3f} of {found.n} questions that are not scored")
    return _choice(best, tried)


def choose_better_form(own: PlanRunner) -> FormChoice:
    """Try forms on a sample of a run's own questions; None where no form beats the tasks' own.

    No prior is divided out of letters, since passages and adapters change the habit. The runner
    keeps the answers.
    """
    tasks = [task for task in own.job.tasks if has_forms(task)]
    names = {task.name for task in tasks}
    asked = [question for question in own.job.questions if question.task in names]
    spare = _with_questions(tasks, asked)
    engine = own.engine()
    forms = _forms(spare, SHOTS, engine.info)
    settings = replace(own.job.settings, form=None)
    tried = _try_forms(spare, forms, settings, engine, own.options, known=own.answers)
    sample = {question.id for task in spare for question in task.questions}
    before = [r.correct for r in own.base.records() if r.id in sample and r.correct is not None]
    if not tried or _best(tried)[1].accuracy * len(before) <= sum(map(bool, before)):
        return FormChoice(None, {label: score for label, (_, score) in tried.items()})
    return _choice(_best(tried)[0], tried)


def _choice(best: str, tried: Mapping[str, tuple[PromptFormat, FormScore]]) -> FormChoice:
    return FormChoice(tried[best][0], {label: score for label, (_, score) in tried.items()})


def _best(tried: Mapping[str, tuple[PromptFormat, FormScore]]) -> tuple[str, FormScore]:
    label = best_form({label: score for label, (_, score) in tried.items()})
    return label, tried[label][1]


def _try_forms(
    tasks: Sequence[Task],
    forms: Sequence[PromptFormat],
    settings: EvalSettings,
    engine: Engine,
    options: RunOptions,
    *,
    debias: bool = False,
    known: dict[tuple[str, str], Record] | None = None,
) -> dict[str, tuple[PromptFormat, FormScore]]:
    """Score each form on all questions of these tasks, in an ordinary run; add to what is known."""
    options = replace(options, fresh=False, resume=None)
    common = replace(settings, suite=f"{settings.suite}-form", limit=None)
    tried: dict[str, tuple[PromptFormat, FormScore]] = {}
    for form in forms if tasks else ():
        job = prepare_job(tasks, replace(common, form=form), engine.info)
        part = f"form {form.label}"
        prior = debias and not form.chat
        run = score_job(job, engine, options, part=part, known=known, letter_prior=prior)
        if known is not None:
            known.update(answer_cache(run.records()))
        tried.update({made.label: (made, score) for made, score in _scores(run, form, debias)})
    return tried


def _scores(run: Run, form: PromptFormat, debias: bool) -> Iterator[tuple[PromptFormat, FormScore]]:
    """The score of a form, and with letters that after dividing their prior out."""
    overall = evaluate_run(run).overall
    records = [record for record in run.records() if record.correct is not None]
    if overall.accuracy is None:
        return
    tokens = sum(r.prompt_tokens + r.output_tokens for r in records) / len(records)
    yield form, FormScore(overall.accuracy, overall.n, tokens)
    if debias and overall.accuracy_debiased is not None and not form.chat:
        score = FormScore(overall.accuracy_debiased, overall.n, tokens)
        yield replace(form, debias=True), score


def _forms(tasks: Sequence[Task], numbers: Sequence[int], info: EngineInfo) -> list[PromptFormat]:
    """Letters and cloze with each number of examples, and letters in a chat; the cheapest first."""
    most = min((len(task.examples) for task in tasks), default=0)
    shots = sorted({min(number, most) for number in numbers})
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
    tasks: Sequence[Task], settings: EvalSettings, options: RunOptions, shown: int
) -> list[Task]:
    """The tasks with the questions on which forms are tried; tasks without any are left out."""
    domains = load_domains(options.workspace)
    scored = [question for task in tasks for question in task.questions]
    spare = [
        question
        for task in tasks
        for question in _spare_questions(task, options, domains, shown)
        if not settings.domains or question.domain in settings.domains
    ]
    return _with_questions(tasks, without_copies(spare, scored))


def _spare_questions(
    task: Task, options: RunOptions, domains: Mapping[str, Domain], shown: int
) -> Sequence[Question]:
    """Validation questions; without any, training questions that are not shown as examples."""
    examples = {example.question.id for example in task.examples[:shown]}
    splits: tuple[Split, ...] = ("validation", "train")
    for split in splits:
        try:
            found = load_optional(task.name, data=options.data, domains=domains, split=split)
        except BenchError:  # a mirror without that file, and no way to the hub
            found = None
        if found is not None:
            return [question for question in found.questions if question.id not in examples]
    return [example.question for example in task.examples[shown:]]


def _with_questions(tasks: Sequence[Task], questions: Sequence[Question]) -> list[Task]:
    """The tasks with a sample of these questions, spread over the domains."""
    sample = sample_evenly(questions, QUESTIONS, 5, name=lambda q: q.id, kind=lambda q: q.domain)
    return [
        replace(task, questions=own)
        for task in tasks
        if (own := tuple(q for q in sample if q.task == task.name))
    ]
