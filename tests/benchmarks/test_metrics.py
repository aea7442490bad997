"""Metrics against the libraries and lm-eval on awkward texts, and their way into a run."""

import json
import math

import pytest

from benchmarks.results.comparison import compare_runs
from benchmarks.results.domain_scores import evaluate_run
from benchmarks.results.metric_scores import score_metrics
from benchmarks.runs.evaluate_task import _digest
from benchmarks.runs.runner import EvalSettings, execute_run, open_run, prepare_job
from benchmarks.runs.store import RunStore
from benchmarks.runs.suites import choose_tasks
from benchmarks.scoring.metric_registry import (
    METRICS,
    TEXT_METRICS,
    measure,
    metric_names,
    signatures,
)
from benchmarks.scoring.score import score
from benchmarks.scoring.scorer import metric_scorer
from benchmarks.scoring.text_metrics import exact_match, squad_form, word_f1
from benchmarks.tasks.perplexity import CONTEXT, STRIDE, windows
from benchmarks.tasks.question_rows import read_question
from benchmarks.tasks.registry import load_task
from domainlift.errors import Malformed, Misuse, NoSuch
from domainlift.fields import InvalidRow
from domainlift.types import Question
from engines.base import Answer, Message, Mode, Prompt, Request, Status
from reports.compare_html import render_html
from reports.compare_json import as_json
from reports.compare_markdown import render_markdown
from tests.helpers.fake_engine import INFO, FakeEngine
from tests.helpers.made_runs import question, record, store

#: What is said, and the right answers.
AWKWARD = [
    ("", ["Paris"]),
    ("...", ["Paris"]),
    ("Paris", ["Paris"]),
    ("the Paris.", ["Paris", "City of Paris"]),
    ("It is Paris, in France!", ["Paris", "the city of Paris in France", "Lutetia"]),
    ("naïve café — “déjà vu”", ["Naive cafe deja vu", "naïve café déjà vu"]),
    ("东京是日本的首都。", ["东京", "东京是首都。"]),
    ("🙂 a\u200bb\u00a0c", ["🙂 ab c"]),
    ("The quick brown fox\njumps over the lazy dog", ["A quick brown fox jumped over a lazy dog."]),
    ("1,000.50 $ 50%", ["1000.50", "50 %"]),
    ("a an the", ["the"]),
    ("x " * 300, ["x y z"]),
]
QUESTIONS = [
    Question(f"q{n}", "d", "t", "?", (), refs[0], others=tuple(refs[1:]))
    for n, (_, refs) in enumerate(AWKWARD)
]
WORDS = ("em", "f1", "rouge1", "rouge2", "rougeL", "bleu", "chrf")


def values(names=WORDS):
    rows = [
        (measure(names, q, Answer(q.id, text=said)), "")
        for q, (said, _) in zip(QUESTIONS, AWKWARD, strict=True)
    ]
    return score_metrics(rows, {})


def test_bleu_and_chrf_of_a_corpus_are_sacrebleus():
    sacrebleu = pytest.importorskip("sacrebleu")
    most = max(len(refs) for _, refs in AWKWARD)
    said = [text.strip() for text, _ in AWKWARD]
    columns = [[r[n] if n < len(r) else None for _, r in AWKWARD] for n in range(most)]
    ours = values()
    assert ours["bleu"].value == pytest.approx(sacrebleu.corpus_bleu(said, columns).score)
    assert ours["chrf"].value == pytest.approx(sacrebleu.corpus_chrf(said, columns).score)
    metric = sacrebleu.metrics.BLEU()
    metric.corpus_score(said, columns)
    assert signatures(["bleu"], QUESTIONS) == {"bleu": str(metric.get_signature())}


def test_bleu_and_chrf_are_lm_evals():
    metrics = pytest.importorskip("lm_eval.api.metrics")
    for name in ("bleu", "chrf"):
        single = [(refs[0], said.strip()) for said, refs in AWKWARD]
        rows = [
            (measure([name], Question("", "", "", "?", (), ref), Answer("", text=said)), "")
            for ref, said in single
        ]
        assert score_metrics(rows, {})[name].value == pytest.approx(getattr(metrics, name)(single))


@pytest.mark.parametrize("kind", ["rouge1", "rouge2", "rougeL"])
def test_rouge_is_that_of_rouge_score(kind):
    scorer = pytest.importorskip("rouge_score.rouge_scorer").RougeScorer([kind])
    theirs = [max(scorer.score(ref, said)[kind].fmeasure for ref in refs) for said, refs in AWKWARD]
    assert values([kind])[kind].value == pytest.approx(sum(theirs) / len(theirs))


def test_f1_and_em_are_squads():
    qasper = pytest.importorskip("lm_eval.tasks.qasper.metrics")
    for said, refs in AWKWARD:
        for ref in refs:
            assert squad_form(said) == qasper.normalize_answer(said)
            same = qasper.normalize_answer(said) == qasper.normalize_answer(ref)
            assert exact_match(said, ref) == same
            # Version 2 of SQuAD's script counts two empty texts as the same.
            empty = not squad_form(said) and not squad_form(ref)
            theirs = 1 if empty else qasper.f1_abstractive([said], [ref])
            assert word_f1(said, ref) == pytest.approx(theirs)


def test_perplexity_of_short_texts_is_lm_evals():
    pytest.importorskip("torch")
    metrics = pytest.importorskip("lm_eval.api.metrics")
    from lm_eval.api.instance import Instance

    from benchmarks.lm_eval_model import EngineLM
    from engines.registry import open_engine

    texts = ["The pancreas makes insulin.", "Wörter,  mit Lücken\nund 数字 42."]
    engine = open_engine("tiny")
    requests = [Instance("loglikelihood_rolling", {}, (text,), 0) for text in texts]
    logs = EngineLM(engine).loglikelihood_rolling(requests)
    rows = []
    for text in texts:
        ((before, piece),) = windows(text)
        asked = Question("", "d", "t", before, (piece,), 0)
        value = logs[texts.index(text)]
        rows.append((measure(TEXT_METRICS, asked, Answer("", logprobs=(value,))), ""))
    ours = score_metrics(rows, {})
    words = [(log, len(text.split())) for log, text in zip(logs, texts, strict=True)]
    sizes = [(log, len(text.encode())) for log, text in zip(logs, texts, strict=True)]
    assert ours["word_perplexity"].value == pytest.approx(metrics.weighted_perplexity(words))
    assert ours["byte_perplexity"].value == pytest.approx(metrics.weighted_perplexity(sizes))
    assert ours["bits_per_byte"].value == pytest.approx(metrics.bits_per_byte(sizes))


@pytest.mark.parametrize(
    "text",
    [
        "",
        " a ",
        "word " * 1000,
        "x" * 5000,
        "東京" * 2000,
        "a" + " " * 4000 + "b",
        "line\n\n" * 900,
        "é " * 1500,
    ],
)
def test_windows_make_up_the_text(text):
    made = list(windows(text))
    assert "".join(piece for _, piece in made) == text.strip()
    assert all(0 < len(piece.encode()) <= STRIDE for _, piece in made)
    assert all(len(before.encode()) <= CONTEXT for before, _ in made)
    assert [not before for before, _ in made[1:]] == [False] * len(made[1:])
    counted = sum(
        METRICS["word_perplexity"].statistics(
            Question("", "", "", before, (piece,), 0), Answer("", logprobs=(0.0,))
        )[1]
        for before, piece in made
    )
    assert counted == len(text.split())


CALL = '{"name": "weather", "arguments": {"city": "Bern", "days": 2}}'
OTHER = '{"name": "time", "arguments": {}}'


@pytest.mark.parametrize(
    ("reply", "expected", "shares", "right"),
    [
        (f"<tool_call>\n{CALL}\n</tool_call>", f"[{CALL}]", (1, 1, 1), True),
        (f"Let me see.\n```json\n[{CALL}]\n```", CALL, (1, 1, 1), True),
        ('{"name": "weather", "parameters": {"days": 2.0, "city": "Bern"}}', CALL, (1, 1, 1), True),
        (
            json.dumps(
                {
                    "tool_calls": [
                        {"function": {"name": "time", "arguments": "{}"}},
                        {
                            "function": {
                                "name": "weather",
                                "arguments": '{"city":"Bern","days":2}',
                            }
                        },
                    ]
                }
            ),
            f"[{OTHER}, {CALL}]",
            (1, 1, 1),
            True,
        ),
        (CALL.replace("2", '"2"'), CALL, (1, 0, 1), False),
        (CALL.replace("2", "true"), CALL.replace("2", "1"), (1, 0, 1), False),
        (f"{OTHER} {CALL}", f"[{CALL}, {OTHER}]", (1, 1, 0), False),
        (OTHER, CALL, (0, 0, 0), False),
        (f"{CALL} {CALL}", CALL, (0, 0, 0), False),
        ("It rains.", CALL, (0, 0, 0), False),
        ("It rains.", "[]", (1, 1, 1), True),
        (CALL, "[]", (0, 0, 0), False),
        ('{"a": ' * 3000, CALL, (0, 0, 0), False),
        ('{"name": "weather", "arguments": "no json"}', CALL, (1, 0, 1), False),
    ],
)
def test_calls_of_tools(reply, expected, shares, right):
    asked = Question("q", "d", "t", "?", (), expected)
    found = score(asked, Answer("q", text=reply), Mode.GENERATE, metric_scorer(("tool_calls",)))
    assert tuple(found.metrics[name][0] for name in ("tool", "arguments", "order")) == shares
    assert found.correct is right


@pytest.mark.parametrize(
    ("reply", "expected", "right"),
    [
        ("4 degrees.", "4 degrees", True),
        ("It has 4 degrees", "4", True),
        ("<think>4</think>5", "4", False),
        ("One.\nTwo.", "One.\nTwo.", True),
        ("", "4", False),
        (f"4 {CALL}", "4", False),
    ],
)
def test_the_last_answer_of_an_agent(reply, expected, right):
    asked = Question("q", "d", "t", "?", (), expected)
    found = score(asked, Answer("q", text=reply), Mode.GENERATE, metric_scorer(("tool_calls",)))
    assert found.metrics["answer"] == (float(right),)
    assert found.correct is right


def test_only_a_last_answer_is_graded_as_one():
    scorer = metric_scorer(("tool_calls",))
    for expected in (CALL, "[]"):
        asked = Question("q", "d", "t", "?", (), expected)
        graded = score(asked, Answer("q", text=CALL), Mode.GENERATE, scorer).metrics
        assert set(graded) == {"tool", "arguments", "order"}


def test_statuses_of_graded_replies():
    asked, scorer = QUESTIONS[2], metric_scorer(("f1",))

    def status(**answer):
        made = score(asked, Answer("q", **answer), Mode.GENERATE, scorer)
        return made.status, made.correct, made.metrics.get("f1")

    assert status(text="Paris!") == (Status.OK, True, (1.0,))
    assert status(text="") == (Status.UNPARSED, False, (0.0,))
    assert status(text="Paris", cut_off=True) == (Status.CUT_OFF, False, (1.0,))
    assert status(status=Status.ERROR) == (Status.ERROR, None, None)


def test_names_of_metrics():
    assert metric_names("chrf, em") == ("em", "chrf")
    with pytest.raises(NoSuch, match="rougel") as caught:
        metric_names("rougel")
    assert "rougeL" in str(caught.value.hint)


# --- runs


def write_questions(folder, **more):
    rows = [
        {"question": f"Capital number {n}?", "answer": ["Paris", "the city of Paris"], **more}
        for n in range(6)
    ]
    path = folder / "capitals.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


class Speaker(FakeEngine):
    """Says the same to every question, and gives each byte of an option a bit."""

    said = "It is Paris."

    def answer(self, requests):
        for request in requests:
            self.asked.append(request)
            logs = tuple(-math.log(2) * len(o.encode()) for o in request.options)
            yield Answer(request.id, text=None if logs else self.said, logprobs=logs)


def made_run(tmp_path, tasks, settings, said="It is Paris.", digest="sha256:00"):
    engine = Speaker(INFO if digest is None else INFO.__class__(**{**vars(INFO), "digest": digest}))
    engine.said = said
    job = prepare_job(tasks, settings, engine.info)
    run = open_run(job, engine.info, RunStore(tmp_path / "workspace"))
    execute_run(job, engine, run, lambda _: None)
    return run


def graded(folder, *metrics):
    names = [str(write_questions(folder))]
    return choose_tasks(names, EvalSettings("tasks", metrics=metrics), {}, None)


def test_a_run_has_its_metrics_beside_accuracy(tmp_path):
    run = made_run(tmp_path, *graded(tmp_path, "f1", "bleu"))
    found = evaluate_run(run).as_json()["domains"]["capitals"]
    assert found["accuracy"] == 0
    # `is paris` against `city of paris` and `paris`
    assert found["metrics"]["f1"]["value"] == pytest.approx(0.5)
    assert found["metrics"]["f1"]["interval"] == (0.5, 0.5)
    assert found["metrics"]["f1"]["n"] == 6
    assert "nrefs:2" in found["metrics"]["bleu"]["signature"]
    assert run.manifest.versions["bleu"] == found["metrics"]["bleu"]["signature"]


def test_metrics_are_compared_in_pairs(tmp_path):
    first = made_run(tmp_path, *graded(tmp_path, "f1", "chrf"))
    second = made_run(tmp_path, *graded(tmp_path, "f1", "chrf"), "Paris", "sha256:11")
    comparison = compare_runs(first, second)
    row = as_json(comparison)["domains"]["capitals"]
    change = row["metrics"]["f1"]
    assert (change["baseline"], change["candidate"]) == pytest.approx((0.5, 1.0))
    assert change["interval"] == pytest.approx([0.5, 0.5])
    assert change["p"] < 0.01
    assert change["n"] == 6
    assert row["gained"] == 6
    cells = ["f1", "capitals", "6", "0.500", "1.000", "+0.500", "0.500 to 0.500"]
    assert f"| {' | '.join(cells)} |" in render_markdown(comparison)
    assert ">Metrics</h2>" in render_html(comparison)


def test_a_suite_names_its_scorer(tmp_path):
    write_questions(tmp_path)
    suite = tmp_path / "suite.yaml"
    suite.write_text("tasks: [capitals.jsonl]\nscorer: rougeL, f1\n")
    tasks, settings = choose_tasks(None, EvalSettings(str(suite)), {}, None)
    assert tasks[0].scorer.metrics == settings.metrics == ("f1", "rougeL")
    suite.write_text("tasks: [capitals.jsonl]\nscorer: rouge\n")
    with pytest.raises(Malformed, match="`rouge`"):
        choose_tasks(None, EvalSettings(str(suite)), {}, None)


def test_metrics_of_questions_with_options_are_refused(tmp_path):
    path = tmp_path / "closed.jsonl"
    path.write_text('{"question": "?", "options": ["a", "b"], "answer": 0}\n')
    with pytest.raises(Misuse, match="no task has open questions"):
        choose_tasks([str(path)], EvalSettings("tasks", metrics=("f1",)), {}, None)


def test_texts_are_measured_in_windows(tmp_path):
    path = tmp_path / "texts.jsonl"
    path.write_text("".join(json.dumps({"text": f"word{n} " * 400}) + "\n" for n in range(3)))
    task = load_task(f"perplexity:{path}", data=None, domains={})
    run = made_run(tmp_path, [task], EvalSettings("tasks"))
    found = evaluate_run(run).as_json()["domains"]["texts"]
    assert len({q.cluster for q in task.questions}) == 3
    assert (found["n"], found["accuracy"], found["verdict"]) == (0, None, None)
    assert found["metrics"]["bits_per_byte"]["value"] == pytest.approx(1)
    assert found["metrics"]["byte_perplexity"]["value"] == pytest.approx(2)
    assert "stride 1024" in found["metrics"]["bits_per_byte"]["signature"]
    assert run.manifest.finished
    other = made_run(tmp_path, [task], EvalSettings("tasks"), digest="sha256:11")
    told = as_json(compare_runs(run, other))
    assert told["verdict"].startswith("No answer is right or wrong")
    assert told["domains"]["texts"]["metrics"]["bits_per_byte"]["p"] == 1


def test_a_single_text_has_windows_that_stand_alone(tmp_path):
    path = tmp_path / "text.txt"
    path.write_text("some words " * 300)
    task = load_task(f"perplexity:{path}", data=None, domains={})
    assert {q.cluster for q in task.questions} == {""}
    assert {q.domain for q in task.questions} == {"text"}
    path.write_text(" ")
    with pytest.raises(Malformed, match="holds no text"):
        load_task(f"perplexity:{path}", data=None, domains={})


def test_an_agent_is_asked_for_its_next_step(tmp_path):
    call = json.loads(CALL)
    before = [
        {"role": "system", "content": "Ask."},
        {"role": "user", "content": "Warm in Bern?"},
        {"role": "assistant", "content": "", "tool_calls": [{"id": "1", "function": call}]},
        {"role": "tool", "content": "4", "tool_call_id": "1"},
    ]
    rows = [
        {"id": "1", "question": "Warm?", "messages": before[:2], "answer": [call], "cluster": "a"},
        {"id": "2", "question": "Warm?", "messages": before, "answer": "No, 4.", "cluster": "a"},
    ]
    path = tmp_path / "steps.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    engine = Speaker()
    engine.said = f"<tool_call>{CALL}</tool_call>"
    tasks, settings = choose_tasks([str(path)], EvalSettings("tasks", chat=True), {}, None)
    with pytest.raises(Misuse, match="only a chat"):
        prepare_job(tasks, EvalSettings("tasks"), engine.info)
    job = prepare_job(tasks, settings, engine.info)
    run = open_run(job, engine.info, RunStore(tmp_path / "workspace"))
    execute_run(job, engine, run, lambda _: None)
    first, second = sorted((each.prompt.messages for each in engine.asked), key=len)
    assert [turn.content for turn in first] == ["Ask.", "Warm in Bern?"]
    assert second[2].extra == {"tool_calls": [{"id": "1", "function": call}]}
    found = evaluate_run(run).overall
    assert found.accuracy == 0.5
    assert {name: (one.value, one.n) for name, one in found.metrics.items()} == {
        **dict.fromkeys(("tool", "arguments", "order"), (0.5, 2)),
        "answer": (0.0, 1),
    }
    assert [q.messages != "" for q in run.questions()] == [True, True]


def test_what_only_calls_tell_apart_is_another_request():
    def digest(city):
        extra = {"tool_calls": [{"function": {"name": "weather", "arguments": {"city": city}}}]}
        turns = (Message("user", "?"), Message("assistant", "", extra))
        return _digest(Request("q", Mode.GENERATE, Prompt(messages=turns)), False)

    assert digest("Bern") != digest("Rome")


@pytest.mark.parametrize(
    "messages",
    [
        "hello",
        [1],
        [{"role": "user"}],
        [{"role": "user", "content": 1}],
        [{"role": "assistant", "content": "", "tool_calls": 1.5}],
        [{"role": "assistant", "content": "", "tool_calls": [{}]}],
        [{"role": "assistant", "content": "", "tool_calls": [{"function": {"name": 1}}]}],
    ],
)
def test_messages_of_another_form_are_refused(messages):
    with pytest.raises(InvalidRow, match="messages"):
        read_question({"question": "?", "answer": "4", "messages": messages})


def test_what_two_runs_do_not_share_is_not_compared(tmp_path):
    questions = [question(n) for n in range(4)]
    one = [(q, record(q, True, metrics={"f1": (0.5,)})) for q in questions]
    two = [(q, record(q, True)) for q in questions]
    change = compare_runs(store(tmp_path, "one", one), store(tmp_path, "two", two)).overall
    assert change.metrics == {}


def test_tools_reach_the_prompt_of_a_chat(tmp_path):
    tools = [{"type": "function", "function": {"name": "weather", "parameters": {}}}]
    path = tmp_path / "calls.jsonl"
    row = {"question": "Weather in Bern?", "answer": [json.loads(CALL)], "tools": tools}
    path.write_text(json.dumps(row) + "\n")
    settings = EvalSettings("tasks", chat=True, metrics=("tool_calls",))
    tasks, settings = choose_tasks([str(path)], settings, {}, None)
    engine = Speaker()
    engine.said = f"<tool_call>{CALL}</tool_call>"
    with pytest.raises(Misuse, match="only a chat"):
        prepare_job(tasks, EvalSettings("tasks"), engine.info)
    job = prepare_job(tasks, settings, engine.info)
    run = open_run(job, engine.info, RunStore(tmp_path / "workspace"))
    execute_run(job, engine, run, lambda _: None)
    assert engine.asked[0].prompt.tools == tuple(tools)
    assert evaluate_run(run).overall.accuracy == 1
