"""Choice of the form in which a model is asked, on questions that are not scored."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.prompts import PromptFormat
from benchmarks.results.domain_scores import evaluate_run, is_right_debiased
from benchmarks.results.improve_result import BestForm
from benchmarks.runs.evaluate_task import answer_cache
from benchmarks.runs.runner import EvalSettings, has_forms, prepare_job
from benchmarks.runs.store import Record, Run
from benchmarks.scoring.forms import (
    QUESTIONS,
    ROUNDS,
    SHOTS,
    WORSE_ALPHA,
    FormScore,
    best_form,
)
from benchmarks.tasks.base import Task
from benchmarks.tasks.registry import load_optional
from domainlift.errors import BenchError
from domainlift.sampling import sample_evenly
from domainlift.stats.paired import sign_test
from domainlift.text.normalise import without_copies
from domainlift.types import Question, Split
from engines.base import Engine, EngineInfo, Mode
from improve.options import RunOptions
from improve.plan_runner import PlanRunner
from improve.score import score_job
from knowledge_bases.domains import Domain, load_domains
from reports.terminal import print_note


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

    The questions are spread over the domains: those of the validation split, else training
    questions that are not shown as examples. Forms that 100 of them do not tell apart are asked
    more, at most 400 and as many as are scored. Without any, letters are taken. With `shots` each
    form has so many examples; `debias` says whether letters may have their prior divided out.
    """
    asked = [task for task in tasks if has_forms(task)]
    if not asked:
        print_note("no task can be asked in several forms; each is asked in its own")
        return FormChoice(None, {})
    numbers = SHOTS if shots is None else (shots,)
    spare = _spare_questions(asked, settings, options, max(numbers))
    forms = _forms(_with_questions(asked, spare, len(spare)), numbers, engine.info)
    if not spare or not forms:
        print_note("no validation or training questions to choose a form on: asks by letters")
        return FormChoice(_letters(asked, settings, engine.info), {})
    most = max(QUESTIONS, len(prepare_job(asked, settings, engine.info).questions))
    trial = _Trial(settings, engine, options, {}, debias)
    tried, best = _race(trial, asked, spare, forms, most)
    if best is None:
        return FormChoice(_letters(asked, settings, engine.info), {})
    told = f"{best.score.accuracy:.3f} of {best.score.n} questions that are not scored"
    print_note(f"form {best.form.label}: {told}")
    return _choice(best.form, tried)


def choose_better_form(own: PlanRunner) -> FormChoice:
    """Try forms on a sample of a run's own questions; None where no form beats the tasks' own.

    At most 100 questions, of which a form that is shown to be worse than another one is asked the
    first 40. No prior is divided out of letters, since passages and adapters change the habit. The
    runner keeps the answers.
    """
    tasks = [task for task in own.job.tasks if has_forms(task)]
    names = {task.name for task in tasks}
    asked = [question for question in own.job.questions if question.task in names]
    engine = own.engine()
    forms = _forms(_with_questions(tasks, asked, len(asked)), SHOTS, engine.info)
    settings = replace(own.job.settings, form=None)
    trial = _Trial(settings, engine, own.options, own.answers, debias=False)
    tried, best = _race(trial, tasks, asked, forms, QUESTIONS)
    if best is None:
        return _choice(None, tried)
    before = [r.correct for r in own.base.records() if r.id in best.right and r.correct is not None]
    better = round(best.score.accuracy * len(before), 6) > sum(map(bool, before))
    return _choice(best.form if better else None, tried)


@dataclass(frozen=True)
class _Trial:
    """How forms are tried; `known` are answers, to which those of each form are added."""

    settings: EvalSettings
    engine: Engine
    options: RunOptions
    known: dict[tuple[str, str], Record]
    debias: bool


@dataclass(frozen=True)
class _TriedForm:
    """A form with its score, and by question whether its answer is right."""

    form: PromptFormat
    score: FormScore
    right: Mapping[str, bool]


def _choice(form: PromptFormat | None, tried: Mapping[str, _TriedForm]) -> FormChoice:
    return FormChoice(form, {label: each.score for label, each in tried.items()})


def _race(
    trial: _Trial,
    tasks: Sequence[Task],
    questions: Sequence[Question],
    forms: Sequence[PromptFormat],
    most: int,
) -> tuple[dict[str, _TriedForm], _TriedForm | None]:
    """Ask forms more and more of at most `most` questions, until one is left; all, and the best.

    What is shown to be worse than another form after a round is not asked the rest.
    """
    tried: dict[str, _TriedForm] = {}
    left, best = list(forms), None
    for size in sorted({min(size, most, len(questions)) for size in ROUNDS}):
        found = _try_forms(trial, _with_questions(tasks, questions, size), left)
        tried |= found
        good = {k: each for k, each in found.items() if not _shown_worse(each, found.values())}
        best = good[best_form({k: each.score for k, each in good.items()})] if good else None
        # A prior is divided out of the answers, so the prompts are those of the raw letters.
        still = {replace(each.form, debias=False) for each in good.values()}
        left = [form for form in left if form in still]
        if len(good) < 2:
            break
    return tried, best


def _shown_worse(form: _TriedForm, others: Iterable[_TriedForm]) -> bool:
    """Whether a form is worse than another one by the exact sign test, on the same questions."""
    for other in others:
        both = form.right.keys() & other.right.keys()
        losses = sum(other.right[name] and not form.right[name] for name in both)
        gains = sum(form.right[name] and not other.right[name] for name in both)
        if sign_test(losses, gains) < WORSE_ALPHA:
            return True
    return False


def _try_forms(
    trial: _Trial, tasks: Sequence[Task], forms: Sequence[PromptFormat]
) -> dict[str, _TriedForm]:
    """Score each form on all questions of these tasks, in an ordinary run."""
    options = replace(trial.options, fresh=False, resume=None)
    suite = f"{trial.settings.suite}-form"
    tried: dict[str, _TriedForm] = {}
    for form in forms if tasks else ():
        settings = replace(trial.settings, suite=suite, limit=None, form=form)
        job = prepare_job(tasks, settings, trial.engine.info)
        debias = trial.debias and not form.chat
        run = score_job(
            job,
            trial.engine,
            options,
            part=f"form {form.label}",
            known=trial.known,
            letter_prior=debias,
        )
        trial.known.update(answer_cache(run.records()))
        for each in _scores(run, form, debias=debias):
            tried[each.form.label] = each
    return tried


def _scores(run: Run, form: PromptFormat, *, debias: bool) -> Iterator[_TriedForm]:
    """The score of a form, and with letters that after dividing their prior out."""
    profile = evaluate_run(run)
    overall, prior = profile.overall, profile.letter_prior
    records = [record for record in run.records() if record.correct is not None]
    if overall.accuracy is None:
        return
    tokens = sum(r.prompt_tokens + r.output_tokens for r in records) / len(records)
    right = {record.id: bool(record.correct) for record in records}
    yield _TriedForm(form, FormScore(overall.accuracy, overall.n, tokens), right)
    if debias and prior is not None and overall.accuracy_debiased is not None:
        asked = {question.id: question for question in run.questions()}
        right = {r.id: is_right_debiased(r, asked[r.id], prior) for r in records}
        score = FormScore(overall.accuracy_debiased, overall.n, tokens)
        yield _TriedForm(replace(form, debias=True), score, right)


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


def _spare_questions(
    tasks: Sequence[Task], settings: EvalSettings, options: RunOptions, shown: int
) -> Sequence[Question]:
    """The questions on which forms are tried: no scored one, nor a copy of one."""
    domains = load_domains(options.workspace)
    scored = [question for task in tasks for question in task.questions]
    spare = [
        question
        for task in tasks
        for question in _validation_questions(task, options, domains, shown)
        if not settings.domains or question.domain in settings.domains
    ]
    return without_copies(spare, scored)


def _validation_questions(
    task: Task, options: RunOptions, domains: Mapping[str, Domain], shown: int
) -> Sequence[Question]:
    """Those of a task; without any, training questions that are not shown as examples."""
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


def _with_questions(tasks: Sequence[Task], questions: Sequence[Question], most: int) -> list[Task]:
    """The tasks with a sample of these questions, spread over the domains."""
    sample = sample_evenly(questions, most, 5, name=lambda q: q.id, kind=lambda q: q.domain)
    return [
        replace(task, questions=own)
        for task in tasks
        if (own := tuple(q for q in sample if q.task == task.name))
    ]
