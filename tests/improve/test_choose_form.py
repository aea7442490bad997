from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from benchmarks.prompts import PromptFormat
from benchmarks.results.domain_scores import evaluate_run
from benchmarks.runs.runner import EvalSettings, prepare_job, run_fingerprint
from benchmarks.runs.store import RunStore
from benchmarks.scoring.forms import ROUNDS, FormScore, best_form, ranked_forms
from benchmarks.tasks.base import Example, Task, data_digest
from benchmarks.tasks.registry import load_task
from domainlift.types import Question
from engines.base import Answer, EngineInfo, Mode, Request
from improve.choose_form import choose_better_form, choose_form
from improve.options import RunOptions
from improve.plan_runner import PlanRunner
from improve.score import score_job
from knowledge_bases.domains import load_domains
from reports.domain_scores import show_scores
from tests.helpers import fake_engine as fake

SETTINGS = EvalSettings("exams")


class FormEngine(fake.FakeEngine):
    """Knows every answer in some forms; in the others it says B."""

    def __init__(self, tasks: Sequence[Task], *knows: str, info: EngineInfo = fake.INFO) -> None:
        super().__init__(info)
        self._knows = knows
        every = [q for t in tasks for q in (*t.questions, *(e.question for e in t.examples))]
        self._right = {q.text: q.options[int(q.answer)] for q in every}

    def learn(self, questions: Sequence[Question]) -> None:
        """Know the answers to more questions."""
        self._right.update({q.text: q.options[int(q.answer)] for q in questions})

    def _said(self, request: Request) -> Answer:
        turns = [message.content for message in request.prompt.messages]
        text = turns[-1] if turns else request.prompt.text
        block = text if turns else text.rsplit("\n\n", 1)[-1]
        name = "chat" if turns else request.mode.value
        form = f"{name}/{text.count('Answer:') - 1 if not turns else 0}"
        asked = next(q for q in self._right if q in block)
        shown = {line[3:]: k for k, line in enumerate(block.splitlines()) if line[1:3] == ". "}
        options = [option.strip() for option in request.options]
        right = self._right[asked]
        place = list(shown).index(right) if shown else options.index(right)
        best = place if form in self._knows else 1
        logs = [math.log(0.7 if k == best else 0.1) for k in range(len(options))]
        if "letter-debiased" in self._knows and request.mode is Mode.LETTER and not turns:
            logs = [(k == 1) * 5.0 + (k == place) * 1.0 - 7.0 for k in range(len(options))]
        return Answer(request.id, logprobs=tuple(logs), prompt_tokens=len(text.split()))


def questions(count: int, split: str, domain: str = "history") -> tuple[Question, ...]:
    return tuple(
        Question(
            f"{split}-{domain}-{n}",
            domain,
            "exam",
            f"{split} {domain} {n}?",
            tuple(f"{split} {n} is {k}" for k in "wxyz"),
            n % 4,
            split=split,  # type: ignore[arg-type]
        )
        for n in range(count)
    )


def exam(scored: int = 20, train: int = 60) -> Task:
    made = questions(scored, "test")
    examples = tuple(map(Example, questions(train, "train")))
    return replace(
        fake.task(1, mode=Mode.LETTER),
        questions=made,
        examples=examples,
        description="",
        digest=data_digest(made, examples),
    )


@pytest.fixture
def options(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> RunOptions:
    monkeypatch.setattr("improve.choose_form.load_optional", lambda *_, **__: None)
    monkeypatch.setattr("improve.score._validation_questions", lambda *_: ())
    return RunOptions(tmp_path)


@pytest.mark.parametrize(
    ("knows", "taken"),
    [
        ("letter/0", PromptFormat(Mode.LETTER, 0, chat=False)),
        ("letter/5", PromptFormat(Mode.LETTER, 5, chat=False)),
        ("cloze/0", PromptFormat(Mode.CLOZE, 0, chat=False)),
        ("cloze/5", PromptFormat(Mode.CLOZE, 5, chat=False)),
        ("chat/0", PromptFormat(Mode.LETTER, 0, chat=True)),
        ("letter-debiased", PromptFormat(Mode.LETTER, 0, chat=False, debias=True)),
    ],
)
def test_the_form_in_which_a_model_says_what_it_knows_is_taken(
    knows: str, taken: PromptFormat, options: RunOptions
) -> None:
    made = exam()
    engine = FormEngine([made], knows)
    choice = choose_form([made], SETTINGS, engine, options)
    assert choice.form == taken
    assert choice.tried[taken.label].accuracy == 1.0
    assert choice.tried.keys() == {
        *("letter/0", "letter/5", "cloze/0", "cloze/5", "chat/0"),
        *("letter-debiased/0", "letter-debiased/5"),
    }
    asked = {request.id.partition("~")[0] for request in engine.asked}
    assert not asked & {q.id for q in made.questions}


def test_with_a_treatment_no_prior_is_divided_out(options: RunOptions) -> None:
    made = exam()
    choice = choose_form(
        [made], SETTINGS, FormEngine([made], "letter-debiased"), options, debias=False
    )
    assert not any(label.startswith("letter-debiased") for label in choice.tried)


def test_what_the_engine_cannot_do_is_not_tried(options: RunOptions) -> None:
    made = exam()
    info = replace(fake.INFO, modes=frozenset({Mode.LETTER}), has_chat_template=False)
    engine = FormEngine([made], "cloze/0", info=info)
    tried = choose_form([made], SETTINGS, engine, options, debias=False).tried
    assert tried.keys() == {"letter/0", "letter/5"}


@pytest.mark.parametrize(("train", "forms"), [(3, set()), (9, {"letter/5", "cloze/5"})])
def test_examples_are_not_asked(train: int, forms: set[str], options: RunOptions) -> None:
    made = exam(train=train)
    choice = choose_form([made], SETTINGS, FormEngine([made], "cloze/0"), options)
    assert forms <= choice.tried.keys()
    assert all(score.n == train - 5 for score in choice.tried.values())


def test_without_other_questions_letters_are_taken(
    options: RunOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    made = exam(train=0)
    choice = choose_form([made], SETTINGS, FormEngine([made], "cloze/0"), options)
    assert choice.form == PromptFormat(Mode.LETTER, 0, chat=False)
    assert not choice.tried
    assert "no validation or training questions" in capsys.readouterr().err


def test_copies_of_scored_questions_are_not_asked(options: RunOptions) -> None:
    made = exam()
    same = [replace(q, id=f"copy-{q.id}") for q in made.questions]
    made = replace(made, examples=(*made.examples, *map(Example, same)))
    engine = FormEngine([made], "cloze/0")
    choose_form([made], SETTINGS, engine, options)
    assert not any(request.id.startswith("copy-") for request in engine.asked)


@pytest.mark.parametrize(
    ("scored", "spare", "most"),
    [(20, 305, 100), (150, 305, 150), (300, 305, 300), (900, 305, 300), (900, 905, 400)],
)
def test_forms_that_are_alike_are_asked_more(
    scored: int, spare: int, most: int, options: RunOptions
) -> None:
    made = exam(scored, spare)
    engine = FormEngine([made], "cloze/0", "cloze/5")
    choice = choose_form([made], SETTINGS, engine, options)
    counts = {label: score.n for label, score in choice.tried.items()}
    assert counts.pop("cloze/0") == counts.pop("cloze/5") == most
    assert set(counts.values()) == {ROUNDS[0]}
    prompts = [
        (request.id, request.prompt, request.options)
        for request in engine.asked
        if "~" not in request.id
    ]
    assert len(prompts) == len(set(prompts))


def test_a_limit_of_the_run_limits_its_choice(options: RunOptions) -> None:
    made = exam(900, 905)
    engine = FormEngine([made], "cloze/0", "cloze/5")
    tried = choose_form([made], replace(SETTINGS, limit=120), engine, options).tried
    assert tried["cloze/0"].n == 120


def test_letters_whose_prior_is_divided_out_stay_though_raw_ones_are_worse(
    options: RunOptions,
) -> None:
    made = exam(200, 205)
    engine = FormEngine([made], "letter-debiased", "cloze/5")
    choice = choose_form([made], SETTINGS, engine, options)
    assert choice.tried["letter-debiased/0"].n == 200
    assert choice.tried["letter-debiased/0"].accuracy == 1.0
    assert choice.tried["chat/0"].n == ROUNDS[0]


def test_training_questions_are_not_only_those_that_may_be_shown(tmp_path: Path) -> None:
    folder = tmp_path / "arc" / "ARC-Easy"
    folder.mkdir(parents=True)
    for split, count in (("train", 80), ("test", 20)):
        rows = [
            {"question": each.text, "choices": each.options, "answer": each.answer}
            for each in questions(count, split)
        ]
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{split}.jsonl").write_text(text, encoding="utf-8")
    made = load_task("arc:easy", data=tmp_path, domains=load_domains(tmp_path))
    engine = FormEngine([made], info=replace(fake.INFO, has_chat_template=False))
    engine.learn(questions(80, "train"))
    tried = choose_form([made], SETTINGS, engine, RunOptions(tmp_path, tmp_path)).tried
    assert len(made.examples) == 25
    assert {score.n for score in tried.values()} == {75}  # 80, of which 5 are shown


def test_tasks_without_letters_are_asked_in_their_own_form(options: RunOptions) -> None:
    spoken = replace(exam(), name="sums", mode=Mode.GENERATE, modes=frozenset({Mode.GENERATE}))
    spoken = replace(
        spoken, questions=tuple(replace(q, task="sums", id=f"s-{q.id}") for q in spoken.questions)
    )
    made = exam()
    choice = choose_form([made, spoken], SETTINGS, FormEngine([made], "cloze/5"), options)
    formats = prepare_job([made, spoken], choice.in_settings(SETTINGS), fake.INFO).formats
    assert formats["exam"].label == "cloze/5"
    assert formats["sums"].label == "generate/0"


def test_a_task_with_fewer_examples_than_the_form_has_is_asked_with_those() -> None:
    settings = replace(SETTINGS, form=PromptFormat(Mode.CLOZE, 5, chat=False))
    formats = prepare_job([exam(train=2)], settings, fake.INFO).formats
    assert formats["exam"].label == "cloze/2"


def test_the_choice_is_stored_shown_and_costs_nothing_again(
    options: RunOptions, capsys: pytest.CaptureFixture[str]
) -> None:
    made = exam()
    engine = FormEngine([made], "cloze/5")
    choice = choose_form([made], SETTINGS, engine, options)
    job = prepare_job([made], choice.in_settings(SETTINGS), engine.info)
    run = score_job(job, engine, options)
    form = evaluate_run(run).as_json()["form"]
    assert (form["name"], form["shots"]) == ("cloze", 5)
    assert form["tried"]["cloze/5"] == {"accuracy": 1.0, "n": 40, "tokens": 50}
    show_scores(evaluate_run(run))
    table = capsys.readouterr().out.partition("forms tried")[2].splitlines()
    assert table[1].split()[:3] == ["cloze/5", "1.000", "40"]
    asked = len(engine.asked)
    again = choose_form([made], SETTINGS, engine, options)
    assert again == choice
    assert score_job(job, engine, options).folder == run.folder
    assert len(engine.asked) == asked
    # Whoever names the form gets the same run.
    named = replace(SETTINGS, mode=Mode.CLOZE, shots=5)
    plain = prepare_job([made], named, engine.info)
    assert run_fingerprint(plain, engine.info) == run_fingerprint(job, engine.info)
    assert len(RunStore(options.workspace).ids()) == 6


@pytest.mark.parametrize(
    ("scores", "best"),
    [
        ({"letter/0": (0.25, 90), "cloze/0": (0.40, 40)}, "cloze/0"),
        ({"letter/0": (0.25, 90), "letter/5": (0.26, 500)}, "letter/5"),
        ({"letter/5": (0.25, 500), "letter/0": (0.25, 90)}, "letter/0"),
        ({"letter/0": (0.25, 90), "letter-debiased/0": (0.25, 90)}, "letter/0"),
    ],
)
def test_the_best_form_is_the_better_one_and_of_equals_the_cheaper(
    scores: dict[str, tuple[float, float]], best: str
) -> None:
    tried = {form: FormScore(share, 100, tokens) for form, (share, tokens) in scores.items()}
    assert best_form(tried) == best


def test_forms_that_were_asked_longest_stand_first() -> None:
    tried = {
        "letter/0": FormScore(0.60, 40, 90),
        "cloze/0": FormScore(0.30, 150, 40),
        "cloze/5": FormScore(0.35, 150, 500),
    }
    assert [form for form, _ in ranked_forms(tried)] == ["cloze/5", "cloze/0", "letter/0"]


def runner_of(
    made: Task, engine: FormEngine, options: RunOptions, **settings: object
) -> PlanRunner:
    job = prepare_job([made], replace(SETTINGS, **settings), engine.info)  # type: ignore[arg-type]
    base = score_job(job, engine, options, part="base")
    return PlanRunner.from_base_run(job, lambda: engine, options, base)


@pytest.mark.parametrize(
    ("knows", "better"),
    [
        ("cloze/0", "cloze/0"),
        ("chat/0", "chat/0"),
        ("letter/5", "letter/5"),
        ("letter/0", ""),  # the task's own
        ("nothing", ""),  # of equal ones the task's own stays
        ("letter-debiased", ""),
    ],
)
def test_a_loop_asks_in_another_form_only_where_that_is_better(
    knows: str, better: str, options: RunOptions
) -> None:
    made = exam()
    engine = FormEngine([made], knows)
    own = runner_of(made, engine, options)
    choice = choose_better_form(own)
    assert choice.result.label == better
    assert choice.tried.keys() == {"letter/0", "letter/5", "cloze/0", "cloze/5", "chat/0"}
    # On the questions of the run itself, which are for choosing, and none twice in one form.
    prompts = [(request.id, request.prompt, request.options) for request in engine.asked]
    assert len(prompts) == len(set(prompts))
    asked = {request.id.partition("~")[0] for request in engine.asked}
    assert asked == {q.id for q in made.questions}
    settings = choice.in_settings(SETTINGS)
    job = prepare_job([made], settings, engine.info)
    again = run_fingerprint(job, engine.info)["prompts"]
    assert (again == own.base.manifest.fingerprint["prompts"]) == (not better)


def test_a_form_that_is_worse_on_the_first_questions_is_not_asked_the_others(
    options: RunOptions,
) -> None:
    made = exam(scored=90)
    engine = FormEngine([made], "cloze/0", "cloze/5")
    choice = choose_better_form(runner_of(made, engine, options))
    counts = {label: score.n for label, score in choice.tried.items()}
    # Letters are in the run itself, so that these cost nothing; yet they are out as well.
    worse = dict.fromkeys(("letter/0", "letter/5", "chat/0"), ROUNDS[0])
    assert counts == {"cloze/0": 90, "cloze/5": 90} | worse
    assert choice.result.label == "cloze/0"


def test_a_form_that_is_as_good_as_the_tasks_own_is_not_taken(options: RunOptions) -> None:
    # 0.56 × 100 is a little more than 56 in floating point.
    made = exam(scored=100)
    engine = FormEngine([made], "letter/0")
    wrong = {q.text for q in made.questions[:44]}
    engine._right = {
        text: next(o for o in q.options if o != right) if text in wrong else right
        for q in made.questions
        for text, right in engine._right.items()
        if text == q.text
    } | {e.question.text: e.question.options[int(e.question.answer)] for e in made.examples}
    own = runner_of(made, engine, options)
    assert sum(bool(record.correct) for record in own.base.records()) == 56
    assert choose_better_form(own).form is None
