"""Control of form: what it is trained on, and that a placebo is never chosen."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from benchmarks.held_out.gate import GateCriteria
from benchmarks.results.improve_result import FORM_ADAPTER
from ensemble.plan import DomainTreatment
from finetune.data.row_io import load_rows
from finetune.data.sources.questions import question_rows
from improve.context import ImproveContext, prepare_context
from improve.form_adapter import form_job, is_placebo
from improve.notes import Notes
from improve.options import ImproveOptions, RunOptions
from improve.select import TreatmentRuns
from improve.train import dataset_spec, tasks_in_form
from tests.helpers.forking import ForkServer


def context_of(tmp_path: Path, tasks: str, *, own: bool = True) -> ImproveContext:
    suite = tmp_path / "suite.yaml"
    suite.write_text(f"tasks: [{tasks}]\n", encoding="utf-8")
    options = ImproveOptions(GateCriteria(), own=own)
    return prepare_context(str(suite), None, RunOptions(tmp_path), options)


def right_answers(context: ImproveContext, name: str) -> dict[str, str]:
    tasks = tasks_in_form(context, dataset_spec(context, name))
    return {row.prompt: row.completion for task in tasks for row in question_rows(task)}


def test_rows_of_other_domains_teach_the_form(tmp_path: Path) -> None:
    context, notes = context_of(tmp_path, "own:handbook, own:everyday, own:language"), Notes()
    job = form_job(context, ["handbook"], notes)
    assert job is not None
    rows = load_rows(tmp_path / "data" / job.data["answer-form"], "train")
    assert {row.domain for row in rows} == {"everyday", "language"}
    assert notes.lines == []


def test_what_is_not_at_hand_is_one_note(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("HF_DATASETS_CACHE", str(tmp_path))
    context = context_of(tmp_path, "own:handbook, own:biology, own:history", own=False)
    form_job(context, ["handbook"], Notes())
    said = [line for line in capsys.readouterr().err.splitlines() if "cais/mmlu" in line]
    assert len(said) == 2
    assert "the control of form goes without what is missing: " in said[0]
    assert re.search(r"and so for \d+ more domains$", said[0])
    assert "not compared with what is missing: " in said[1]


def test_where_no_other_domain_has_rows_a_placebo_does(tmp_path: Path) -> None:
    context, notes = context_of(tmp_path, "own:handbook"), Notes()
    job = form_job(context, list(context.domains), notes)
    assert job is not None
    rows = load_rows(tmp_path / "data" / job.data["placebo"], "train")
    right = {k: v for name in context.domains for k, v in right_answers(context, name).items()}
    assert {row.prompt for row in rows} <= right.keys()
    learned = [right[row.prompt] == row.completion for row in rows]
    assert len(learned) > 100
    assert sum(learned) < len(learned) / 20
    assert "placebo" in notes.lines[0]


def test_a_placebo_is_no_candidate() -> None:
    placebo = DomainTreatment("lora", adapter="placebo@v0001")
    form = DomainTreatment("lora", adapter="answer-form@v0001")
    assert (is_placebo(placebo), is_placebo(form)) == (True, False)
    answers = {"law": {"base": [], FORM_ADAPTER: [], "lora": []}}
    for control, candidates in ((placebo, {"base", "lora"}), (form, set(answers["law"]))):
        runs = TreatmentRuns({}, {FORM_ADAPTER: {"law": control}}, answers)
        assert runs.candidates("law").keys() == candidates
    assert runs.candidates("another domain") == {}


@pytest.mark.slow
def test_an_adapter_that_learned_shuffled_answers_is_not_called_knowledge(
    tmp_path: Path, fork_server: ForkServer
) -> None:
    def bench(*words: str) -> str:
        with fork_server.start("-m", "bench", *words, cwd=tmp_path) as started:
            out, err = started.communicate()
        assert started.returncode == 0, err
        return str(out)

    bench("data", "prepare", "history", "--own")
    for split in ("train", "validation"):
        path = tmp_path / "workspace" / "data" / "history" / f"{split}.jsonl"
        rows = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
        answers = [row["completion"] for row in rows]
        for row, answer in zip(rows, answers[1:] + answers[:1], strict=True):
            row["completion"] = answer
        path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    words = ("--only", "history", "--skip-rag", "--set", "epochs=6", "--json")
    found = json.loads(bench("improve", "--model", "tiny", *words))
    history = found["domains"]["history"]
    beyond = history["lora_beyond_form"]
    assert beyond["interval"][0] <= 0
    assert history["chosen"] != "lora"
    assert found["verdict"] != "promoted"
