"""Each page shows what is there, and foreign text stays text."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from benchmarks.runs.store import Record, RunManifest, RunStore
from domainlift.hints import name_workspace
from domainlift.types import Question
from ensemble.plan import DomainTreatment, Plan, write_plan
from finetune.adapters.registry import CONFIG, WEIGHTS, AdapterDraft, AdapterRegistry
from improve.exam.exam import Exam, ExamFiles, ExamQuestion, KindYield, read_exam, write_exam
from improve.feedback.marks import FeedbackStore
from tests.helpers.fake_shelf import Shelf, WordBag
from tests.helpers.streaming_engine import EchoEngine
from tests.serving.ui.conftest import form_fields

EVIL = "<script>alert(1)</script>"
HARMLESS = "&lt;script&gt;alert(1)&lt;/script&gt;"


def put_run(root: Path, name: str, right: int, **changes: Any) -> None:
    """Store a run of four questions."""
    questions = [
        Question(f"q{n}", "garden", "own:garden", f"{EVIL} {n}?", ("a", "b"), 0) for n in range(4)
    ]
    print_ = {"model": "m", "engine": "e", "options": "o", "treatment": "t", "data": "d"}
    manifest = RunManifest(
        run=name,
        model="small",
        suite="demo",
        fingerprint={**print_, "questions": "q", "prompts": "p"},
        settings={"treatment": EVIL, "command": f"bench run {EVIL}"},
        engine={},
        versions={},
        questions=4,
        created="2026-01-02T03:04:05+00:00",
        finished=True,
    )
    run = RunStore(root).create(replace(manifest, **changes), questions)
    with run.writing():
        for n, question in enumerate(questions):
            correct = n < right
            run.append(
                Record(question.id, "garden", question.task, "ok", correct, int(not correct))
            )


def test_runs_are_filtered_and_compared(client: TestClient, tmp_path: Path) -> None:
    put_run(tmp_path, "first", 1)
    put_run(tmp_path, "second", 3, model="large", suite=EVIL, finished=False)
    page = client.get("/runs").text
    assert EVIL not in page
    assert HARMLESS in page
    assert page.count('name="baseline"') == 2
    tables = [
        ({"model": "small"}, {"first"}),
        ({"model": "large", "suite": "demo"}, set()),
        ({"text": "LARGE second"}, {"second"}),
        ({"text": "2026-01-02"}, {"first", "second"}),
        ({"suite": EVIL}, {"second"}),
    ]
    for fields, names in tables:
        found = client.get("/runs", params=fields).text
        assert {each for each in ("first", "second") if f'value="{each}"' in found} == names, fields
    report = client.get("/compare", params={"baseline": "first", "candidate": "second"})
    assert report.status_code == 200
    assert "Comparison of two runs" in report.text
    assert EVIL not in report.text
    # It has the origin of nobody, and so neither cookies nor forms.
    assert report.headers["content-security-policy"].startswith("sandbox allow-scripts;")


@pytest.mark.parametrize(
    ("fields", "status"),
    [
        ({}, 400),
        ({"baseline": "first"}, 400),
        ({"baseline": "first", "candidate": "first"}, 400),
        ({"baseline": "first", "candidate": "nope"}, 404),
    ],
)
def test_runs_that_cannot_be_compared_are_told(
    client: TestClient, tmp_path: Path, fields: dict[str, str], status: int
) -> None:
    put_run(tmp_path, "first", 1)
    found = client.get("/compare", params=fields)
    assert found.status_code == status
    assert "That was not done" in found.text


def test_a_stored_report_is_shown_as_a_stranger(client: TestClient, tmp_path: Path) -> None:
    (tmp_path / "reports").mkdir()
    (tmp_path / "reports" / "a-vs-b.html").write_text("<p>stored</p>", encoding="utf-8")
    found = client.get("/reports/a-vs-b")
    assert found.text == "<p>stored</p>"
    assert found.headers["content-security-policy"].startswith("sandbox allow-scripts;")
    for name in ("nope", "%2e%2e%2fplans%2fx"):
        assert client.get(f"/reports/{name}").status_code in (404, 500), name


def test_a_run_has_its_scores(client: TestClient, tmp_path: Path) -> None:
    put_run(tmp_path, "first", 3)
    page = client.get("/runs/first").text
    assert "0.750" in page
    assert EVIL not in page


def test_a_broken_run_hides_no_other(client: TestClient, tmp_path: Path) -> None:
    put_run(tmp_path, "first", 3)
    broken = tmp_path / "runs" / "broken"
    broken.mkdir()
    (broken / "manifest.json").write_text("{", encoding="utf-8")
    page = client.get("/runs").text
    assert 'value="first"' in page
    assert "not the manifest of a run" in page


def test_knowledge_bases_are_searched(
    client: TestClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shelf = Shelf(tmp_path)
    shelf.put(f"{EVIL.replace('/', '')}.txt", f"{EVIL}: tomatoes need warm soil {EVIL}")
    shelf.build("garden", size=20)
    monkeypatch.setattr("rag.library.open_cached", lambda name, workspace: WordBag())
    assert "garden" in client.get("/knowledge").text
    fields = {"domain": "garden", "query": f"warm {EVIL}"}
    for method in ("hybrid", "bm25", "dense"):
        page = client.get("/knowledge", params={**fields, "method": method}).text
        assert "tomatoes need warm soil" in page
        assert "<script>" not in page
        assert HARMLESS in page
    broken = tmp_path / "knowledge_bases" / "law"
    broken.mkdir(parents=True)
    (broken / "current.json").write_text("{", encoding="utf-8")
    page = client.get("/knowledge").text
    assert "garden" in page
    assert "current.json" in page
    wrong = ({"domain": "law", "query": "x"}, {**fields, "method": "magic"})
    assert {client.get("/knowledge", params=each).status_code for each in wrong} <= {400, 404}


def test_plans_and_adapters_have_cards(client: TestClient, tmp_path: Path) -> None:
    evidence: dict[str, Any] = {"n": 103, "gain": 0.7573, "low": 0.6552, "high": 0.8305}
    domains = {
        "garden": DomainTreatment("rag", knowledge_base="g0001", evidence=evidence),
        "law": DomainTreatment("lora", adapter=EVIL, adapter_digest="x", evidence={"why": EVIL}),
    }
    (tmp_path / "plans").mkdir()
    write_plan(tmp_path / "plans" / "first.yaml", Plan(EVIL, "d", domains, verdict="promoted"))
    (tmp_path / "plans" / "broken.yaml").write_text("schema: 9", encoding="utf-8")
    page = client.get("/adapters").text
    assert "+75.7 points (+65.5 to +83.0), n 103" in page
    assert "promoted" in page
    assert "broken.yaml" in page
    assert EVIL not in page
    assert HARMLESS in page
    publish_adapter(tmp_path)
    page = client.get("/adapters").text
    assert "biology/v0001" in page
    assert "base 0.25, adapter 0.9759, interval [0.6, 0.8], n 83" in page
    assert EVIL not in page


def publish_adapter(root: Path) -> None:
    draft = root / "draft"
    draft.mkdir()
    for name in (WEIGHTS, CONFIG):
        (draft / name).write_text("{}", encoding="utf-8")
    score = {"base": 0.25, "adapter": 0.975903, "interval": [0.6, 0.8], "n": 83}
    made = AdapterDraft("biology", draft, "lora", EVIL, "d", {"order": EVIL}, {}, {EVIL: score})
    AdapterRegistry(root / "adapters").publish(made)


def question(number: int, **changes: Any) -> ExamQuestion:
    made = ExamQuestion(
        id=f"q{number}",
        question=f"Who built pump {number}?",
        options=("Ann", "Bo", EVIL),
        answer=0,
        passage=f"Ann built pump {number}. {EVIL}",
        source=EVIL,
        kind="name",
        split="test",
        fact=f"f{number}",
        wording="question",
    )
    return replace(made, **changes)


@pytest.fixture
def exam(tmp_path: Path) -> ExamFiles:
    files = ExamFiles(tmp_path, "works")
    questions = (*map(question, range(60)), question(99, split="train", question="To learn?"))
    write_exam(files, Exam("works", questions, {"name": KindYield(60, 60)}))
    return files


def test_a_broken_exam_hides_no_other(client: TestClient, exam: ExamFiles) -> None:
    broken = exam.folder.parent / "broken"
    broken.mkdir()
    for name in ("exam.json", "exam.jsonl"):
        (broken / name).write_text("{", encoding="utf-8")
    page = client.get("/exams").text
    assert "works" in page
    assert "not JSON" in page
    assert client.get("/exams/broken").status_code == 400


def exam_form(client: TestClient, exam: ExamFiles, **fields: str) -> dict[str, str]:
    page = client.get("/exams/works").text
    return {**form_fields(page), "digest": read_exam(exam).digest, **fields}


def test_an_exam_is_shown_by_pages(client: TestClient, exam: ExamFiles) -> None:
    assert "works" in client.get("/exams").text
    page = client.get("/exams/works").text
    assert "Who built pump 49?" in page
    assert "Who built pump 50?" not in page
    assert "To learn?" not in page
    assert EVIL not in page
    assert HARMLESS in page
    tables = [
        ({"from": "50"}, "Who built pump 59?"),
        ({"split": "train"}, "To learn?"),
        ({"text": "PUMP 57"}, "Who built pump 57?"),
        ({"from": "-1"}, "Who built pump 0?"),
        ({"from": "9" * 30}, "Who built pump 0?"),
    ]
    for fields, told in tables:
        assert told in client.get("/exams/works", params=fields).text, fields
    assert client.get("/exams/nope").status_code == 404


def test_a_question_is_dropped(client: TestClient, exam: ExamFiles) -> None:
    done = client.post("/exams/works/drop", data=exam_form(client, exam, id="q3"))
    assert done.status_code == 303
    left = read_exam(exam)
    assert left.edited
    assert "q3" not in {each.id for each in left.questions}
    assert len(left.questions) == 59  # the training wording of a fact that is not examined, too


def test_a_question_is_edited(client: TestClient, exam: ExamFiles) -> None:
    options = {"option0": "Ann", "option1": "Cy", "option2": "Di", "answer": "1"}
    fields = exam_form(client, exam, id="q3", question="Who, then?", **options)
    done = client.post("/exams/works/edit", data=fields)
    assert done.headers["location"] == "/exams/works#q-q3"
    changed = next(each for each in read_exam(exam).questions if each.id == "q3")
    assert (changed.question, changed.options, changed.right) == (
        "Who, then?",
        ("Ann", "Cy", "Di"),
        "Cy",
    )
    # The page that the form was on is an old one by now.
    again = client.post("/exams/works/edit", data=fields)
    assert again.status_code == 400
    assert "changed since" in again.text


@pytest.mark.parametrize(
    "wrong",
    [{"option1": "Ann"}, {"answer": "7"}, {"question": " "}, {"option0": ""}, {"id": "nope"}],
)
def test_a_wrong_edit_changes_nothing(
    client: TestClient, exam: ExamFiles, wrong: dict[str, str]
) -> None:
    before = read_exam(exam).digest
    fields = {"id": "q3", "question": "Who?", "option0": "Ann", "option1": "Cy", "answer": "0"}
    found = client.post("/exams/works/edit", data=exam_form(client, exam, **{**fields, **wrong}))
    assert found.status_code in (400, 404)
    assert read_exam(exam).digest == before


def events(client: TestClient, question: str, model: str) -> list[dict[str, Any]]:
    fields = {**form_fields(client.get("/").text), "question": question, "model": model}
    found = client.post("/ask/stream", data=fields)
    assert found.headers["content-type"].startswith("text/event-stream")
    lines = [line.removeprefix("data: ") for line in found.text.split("\n\n") if line]
    assert lines[-1] == "[DONE]"
    return [json.loads(line) for line in lines[:-1]]


def test_an_answer_is_streamed_with_what_it_comes_from(
    asking: TestClient, engine: EchoEngine
) -> None:
    assert "first.yaml" in asking.get("/").text
    question = f"Tomatoes need warm soil and much water in summer: a tomato? {EVIL}"
    told = events(asking, question, "auto")
    origin = told[0]["origin"]
    assert "tomatoes need warm soil" in origin
    assert "<mark>tomato</mark>" in origin
    assert "garden.txt" in origin
    assert "<script>" not in origin
    assert sum("text" in each for each in told) > 3
    assert told[-1]["tokens"] > 3
    foreign = events(asking, "When does the tomato train leave for Paris?", "auto")
    assert "do not hold" in foreign[0]["origin"]
    assert foreign[1]["text"].startswith("I do not find this")
    law = events(asking, "What does the judge say in court?", "auto")
    assert "law-v1" in law[0]["origin"]
    base = events(asking, "When is the tomato sown?", "base")
    assert "tomatoes" not in base[0]["origin"]
    engine.trouble = RuntimeError("boom")
    assert "boom" in events(asking, "one two three four", "base")[-1]["error"]


def test_an_answer_is_marked_by_a_thumb(asking: TestClient, garden: Any) -> None:
    last = events(asking, "tomato", "auto")[-1]
    token = form_fields(asking.get("/").text)
    fields = {**token, "id": last["id"], "verdict": "wrong", "correction": EVIL}
    assert asking.post("/feedback", data=fields).text == "marked as wrong"
    (mark,) = FeedbackStore(garden.root).marks()
    assert (mark.correction, mark.reply.version) == (EVIL, "first")
    assert asking.post("/feedback", data={**fields, "id": "latest"}).status_code == 400
    assert asking.post("/feedback", data={**fields, "form_token": "x"}).status_code == 400


@pytest.mark.parametrize("fields", [{"question": " "}, {"question": "x", "model": "law-v1"}])
def test_what_cannot_be_asked_is_refused(asking: TestClient, fields: dict[str, str]) -> None:
    token = form_fields(asking.get("/").text)
    assert asking.post("/ask/stream", data={**token, **fields}).status_code == 400


def test_without_a_plan_the_page_says_how_to_make_one(client: TestClient) -> None:
    page = client.get("/")
    assert page.status_code == 200
    assert "bench improve" in page.text
    told = events(client, "Why?", "auto")
    assert "was promoted" in told[-1]["error"]
    assert "bench improve" in told[-1]["hint"]


def test_a_plan_that_is_promoted_later_answers(
    client: TestClient, asking: TestClient, garden: Any, make_client: Callable[..., TestClient]
) -> None:
    assert "answered by" in events(asking, "tomato", "auto")[0]["origin"]
    garden.plan("second", created="2026-02-02")
    assert "second.yaml" in events(asking, "tomato", "auto")[0]["origin"]


def test_commands_on_a_page_name_the_workspace_of_its_server(client: TestClient) -> None:
    name_workspace(Path("my notes"))
    try:
        assert "--suite demo --workspace &#39;my notes&#39;</code>" in client.get("/runs").text
    finally:
        name_workspace(None)
