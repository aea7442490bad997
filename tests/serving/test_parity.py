"""The embedded model as served gives the answers that it gives in this process."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from benchmarks.prompts import PromptFormat
from benchmarks.runs.runner import EvalSettings, prepare_job
from benchmarks.runs.store import RunStore
from benchmarks.runs.suites import choose_tasks
from domainlift.types import Question
from engines.local.engine import TransformersEngine
from engines.registry import TINY, EngineOptions, open_engine
from engines.servers.openai import OpenAIEngine
from ensemble.plan import DomainTreatment, Plan, write_plan
from improve.options import RunOptions
from improve.run_plan import run_plan
from improve.score import score_job
from knowledge_bases.domains import load_domains
from rag.retrieval_gate import Gate
from serving.assistant import Assistant
from tests.helpers.fake_shelf import Shelf, WordBag
from tests.serving.conftest import Serve

DOMAIN = "history"


@pytest.fixture(scope="module")
def tiny() -> Iterator[TransformersEngine]:
    engine = open_engine(TINY, EngineOptions())
    assert isinstance(engine, TransformersEngine)
    yield engine
    engine.close()


def questions() -> list[Question]:
    settings = EvalSettings(suite="demo", domains=(DOMAIN,))
    tasks, _ = choose_tasks(None, settings, load_domains(Path("nowhere")), None)
    return [question for task in tasks for question in task.questions]


@pytest.fixture
def plan(tiny: TransformersEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A plan with passages that hold half of the answers, and a gate that looks at confidence."""
    shelf = Shelf(tmp_path)
    facts = [f"{q.text} {q.options[int(q.answer)]}." for q in questions()[::2]]
    shelf.put("facts.txt", *(f"fact{n}: {text}" for n, text in enumerate(facts)))
    shelf.build(DOMAIN, size=60)
    monkeypatch.setattr("rag.library.open_cached", lambda name, workspace: WordBag())
    generation = next((tmp_path / "knowledge_bases" / DOMAIN).glob("g0*")).name
    path = tmp_path / "plans" / "made.yaml"
    path.parent.mkdir()
    shutil.copy(Path("ensemble/routes.yaml"), path.with_suffix(".routes.yaml"))
    for file in Path("ensemble").glob("*.npz"):
        shutil.copy(file, path.parent)
    treatment = DomainTreatment("rag", knowledge_base=generation, gate=Gate(0.5, 0.9, 1))
    made = Plan(TINY, tiny.info.digest, {DOMAIN: treatment}, "made.routes.yaml", verdict="promoted")
    write_plan(path, made)
    return path


@pytest.mark.parametrize(
    "form", ["cloze/0", "letter/0", pytest.param("chat/0", marks=pytest.mark.slow)]
)
def test_the_same_choices_over_the_api(
    tiny: TransformersEngine, plan: Path, serve: Serve, tmp_path: Path, form: str
) -> None:
    settings = EvalSettings(suite="demo", domains=(DOMAIN,), form=PromptFormat.parse(form))
    tasks, settings = choose_tasks(None, settings, load_domains(tmp_path), None)
    options = RunOptions(tmp_path)
    here = run_plan(plan, tasks, settings, tiny, options)
    served = serve(Assistant(tiny, tmp_path, plan))
    there = OpenAIEngine(served.url + "/v1", "auto")
    run = score_job(prepare_job(tasks, settings, there.info), there, options)
    there.close()
    assert here.base is not None
    mine, base = (_choices(tmp_path, each.run) for each in (here.profile, here.base))
    theirs = _choices(tmp_path, run.folder.name)
    assert len(mine) == len(theirs) > 80
    same = sum(mine[name] == theirs[name] for name in mine)
    assert same >= 0.99 * len(mine)
    assert sum(base[name] != theirs[name] for name in base) > 10


def _choices(workspace: Path, run: str) -> dict[str, object]:
    return {record.id: record.chosen for record in RunStore(workspace).get(run).records()}
