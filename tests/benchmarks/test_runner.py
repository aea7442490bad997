from __future__ import annotations

import json
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from itertools import pairwise
from pathlib import Path

import pytest

from benchmarks.results.domain_scores import evaluate_run
from benchmarks.runs.runner import (
    EvalJob,
    EvalSettings,
    execute_run,
    open_run,
    prepare_job,
    run_fingerprint,
    scoring_fallbacks,
    settled,
)
from benchmarks.runs.store import Record, Run, RunStore
from benchmarks.treatments.base import TreatmentPolicy
from domainlift.errors import BenchError, EngineDown, Misuse
from domainlift.types import Passage, Question, Treatment
from engines.base import Engine, Mode
from tests.helpers import fake_engine as fake

SCRIPT = Path(fake.__file__).with_name("fake_run.py")
DOMAINS = ("biology", "history", "law")


def ignore(_: Record) -> None:
    """Notify nobody."""


def job(count: int = 12, engine: Engine | None = None, **settings: object) -> EvalJob:
    info = fake.INFO if engine is None else engine.info
    return prepare_job([fake.task(count, domains=DOMAINS)], EvalSettings("fakes", **settings), info)


def start(root: Path, engine: Engine, count: int = 12, **settings: object) -> tuple[EvalJob, Run]:
    made = job(count, engine, **settings)
    return made, open_run(made, engine.info, RunStore(root))


def timeless(run: Run) -> dict[str, dict[str, object]]:
    """The records by id, without what a clock says."""
    return {record.id: asdict(replace(record, seconds=0.0)) for record in run.records()}


# --- an undisturbed run


@pytest.mark.parametrize("mode", list(Mode))
def test_every_question_is_answered_once(mode: Mode, tmp_path: Path) -> None:
    engine, seen = fake.FakeEngine(), []
    made, run = start(tmp_path, engine, mode=mode)
    execute_run(made, engine, run, seen.append)
    assert sorted(record.id for record in run.records()) == sorted(q.id for q in made.questions)
    texts = [request.prompt.text for request in engine.asked]
    assert texts == sorted(texts), "prompts with a common prefix follow one another"
    assert run.records() == seen
    assert {request.mode for request in engine.asked} == {mode}
    assert run.manifest.finished
    assert run.manifest.forward_tokens == engine.forward_tokens > 0
    assert run.manifest.questions == 12
    assert run.questions() == list(made.questions)


def test_a_manifest_holds_what_repeating_takes(tmp_path: Path) -> None:
    engine = fake.FakeEngine()
    _, run = start(tmp_path, engine, limit=6, seed=3, shots=2, chat=True)
    manifest = json.loads((run.folder / "manifest.json").read_text(encoding="utf-8"))
    assert manifest["settings"] == {
        "command": "",
        "treatment": "base",
        "chat": True,
        "limit": 6,
        "seed": 3,
        "domains": [],
        "max_tokens": None,
        "tasks": {"exam": {"scoring": "letter", "shots": 2}},
    }
    assert manifest["engine"]["options"] == {"temperature": 0}
    assert manifest["engine"]["notes"] == ["this is no model"]
    assert manifest["versions"].keys() == {"domainlift", "fake"}
    assert manifest["run"] == run.folder.name
    assert run.folder.name.startswith("fakes-model-")


def test_tasks_are_asked_one_after_another(tmp_path: Path) -> None:
    engine = fake.FakeEngine()
    tasks = [fake.task(3, "one"), fake.task(3, "two")]
    made = prepare_job(tasks, EvalSettings("fakes"), engine.info)
    run = open_run(made, engine.info, RunStore(tmp_path))
    execute_run(made, engine, run, ignore)
    assert [request.id for request in engine.asked] == [
        *(f"one-{n}" for n in range(3)),
        *(f"two-{n}" for n in range(3)),
    ]


def test_a_treatment_reaches_the_prompt_and_the_record(tmp_path: Path) -> None:
    treatment = Treatment((Passage("Rome is old.", "docs/rome"),), adapter="lora", reason="routed")
    policy = TreatmentPolicy("always", "digest", lambda questions: [treatment] * len(questions))
    engine = fake.FakeEngine()
    made = prepare_job([fake.task(2)], EvalSettings("fakes"), engine.info)
    made = replace(made, policy=policy)
    run = open_run(made, engine.info, RunStore(tmp_path))
    execute_run(made, engine, run, ignore)
    assert {record.treatment for record in run.records()} == {"routed"}
    assert all("Rome is old." in request.prompt.text for request in engine.asked)
    assert {request.prompt.adapter for request in engine.asked} == {"lora"}


@pytest.mark.parametrize("one", [True, False])
def test_where_adapters_are_loaded_each_is_asked_for_once(tmp_path: Path, one: bool) -> None:
    def treat(questions: Sequence[Question]) -> list[Treatment]:
        return [Treatment(adapter="ab"[int(q.id[-1]) % 2]) for q in questions]

    engine = fake.FakeEngine(replace(fake.INFO, one_adapter_at_a_time=one))
    tasks = [fake.task(4, "one"), fake.task(4, "two")]
    made = prepare_job(tasks, EvalSettings("fakes"), engine.info)
    made = replace(made, policy=TreatmentPolicy("mixed", "digest", treat))
    run = open_run(made, engine.info, RunStore(tmp_path))
    execute_run(made, engine, run, ignore)
    asked = [request.prompt.adapter for request in engine.asked]
    loads = 1 + sum(before != after for before, after in pairwise(asked))
    assert len(asked) == 8
    assert loads == (2 if one else 4)


# --- going on


def test_a_finished_run_is_found_again_and_asks_nothing(tmp_path: Path) -> None:
    engine = fake.FakeEngine()
    made, run = start(tmp_path, engine)
    execute_run(made, engine, run, ignore)
    before, again = timeless(run), fake.FakeEngine()
    made, found = start(tmp_path, again)
    assert found.folder == run.folder
    execute_run(made, again, found, ignore)
    assert again.asked == []
    assert timeless(found) == before
    assert found.manifest.finished


def test_fresh_makes_another_folder_each_time(tmp_path: Path) -> None:
    made, store = job(), RunStore(tmp_path)
    first = open_run(made, fake.INFO, store)
    names = [open_run(made, fake.INFO, store, fresh=True).folder.name for _ in range(2)]
    assert names == [f"{first.folder.name}-2", f"{first.folder.name}-3"]
    assert open_run(made, fake.INFO, store).folder == first.folder
    assert [store.get(name).manifest.run for name in names] == names


def test_fresh_in_an_empty_workspace_is_an_ordinary_run(tmp_path: Path) -> None:
    fresh = open_run(job(), fake.INFO, RunStore(tmp_path), fresh=True)
    assert open_run(job(), fake.INFO, RunStore(tmp_path)).folder == fresh.folder


@pytest.mark.parametrize(
    ("settings", "engine", "differing"),
    [
        ({"limit": 6}, {}, ["questions"]),
        ({"limit": 6, "seed": 1}, {}, ["questions"]),
        ({"domains": ("law",)}, {}, ["questions"]),
        ({"shots": 1}, {}, ["prompts"]),
        ({"chat": True}, {}, ["prompts"]),
        ({"mode": Mode.CLOZE}, {}, ["prompts"]),
        ({}, {"digest": "sha256:ff"}, ["model"]),
        ({}, {"options": {"temperature": 1}}, ["engine"]),
        ({"shots": 1}, {"engine": "other"}, ["engine", "prompts"]),
    ],
)
def test_a_run_of_other_settings_is_not_resumed(
    settings: dict[str, object],
    engine: dict[str, object],
    differing: list[str],
    tmp_path: Path,
) -> None:
    store, info = RunStore(tmp_path), replace(fake.INFO, **engine)
    first = open_run(job(), fake.INFO, store).folder.name
    other = job(**settings)
    with pytest.raises(Misuse, match=f"run `{first}` was made with other settings: ") as caught:
        open_run(other, info, store, resume=first)
    parts = caught.value.what.partition("settings: ")[2].split(", ")
    assert [part.split()[0] for part in parts] == differing
    assert f"bench runs show {first}" in str(caught.value.hint)
    assert open_run(other, info, store).folder.name != first
    assert open_run(job(), fake.INFO, store, resume=first).folder.name == first


def test_data_that_changed_make_another_run() -> None:
    before = prepare_job([fake.task(3)], EvalSettings("fakes"), fake.INFO)
    changed = replace(fake.task(3), digest="other")
    after = prepare_job([changed], EvalSettings("fakes"), fake.INFO)
    a, b = run_fingerprint(before, fake.INFO), run_fingerprint(after, fake.INFO)
    assert {key for key in a if a[key] != b[key]} == {"data"}


def test_notes_and_versions_do_not_make_another_run() -> None:
    other = replace(fake.INFO, notes=(), versions={"fake": "2"})
    assert run_fingerprint(job(), fake.INFO) == run_fingerprint(job(), other)


def test_errors_are_asked_again_and_the_later_record_counts(tmp_path: Path) -> None:
    engine = fake.FakeEngine(
        troubles={"exam-1": "error", "exam-4": "error", "exam-2": "truncated", "exam-3": "unparsed"}
    )
    made, run = start(tmp_path, engine)
    execute_run(made, engine, run, ignore)
    assert Counter(r.status for r in run.records()) == {
        "ok": 8,
        "error": 2,
        "truncated": 1,
        "unparsed": 1,
    }
    assert not run.manifest.finished
    again = fake.FakeEngine(troubles={"exam-4": "error"})
    execute_run(made, again, run, ignore)
    assert [request.id for request in again.asked] == ["exam-1", "exam-4"]
    assert not run.manifest.finished
    last = fake.FakeEngine()
    execute_run(made, last, run, ignore)
    assert [request.id for request in last.asked] == ["exam-4"]
    assert run.manifest.finished
    assert Counter(r.status for r in run.records()) == {"ok": 10, "truncated": 1, "unparsed": 1}


def test_an_engine_that_goes_down_costs_nothing(tmp_path: Path) -> None:
    engine = fake.FakeEngine(down=5)
    made, run = start(tmp_path, engine)
    with pytest.raises(EngineDown):
        execute_run(made, engine, run, ignore)
    assert len(run.records()) == 5
    assert not run.manifest.finished
    assert run.manifest.forward_tokens == engine.forward_tokens
    again = fake.FakeEngine()
    execute_run(made, again, run, ignore)
    assert len(again.asked) == 7
    assert run.manifest.finished
    assert run.manifest.forward_tokens == engine.forward_tokens + again.forward_tokens


def test_an_interrupt_keeps_what_was_answered(tmp_path: Path) -> None:
    def interrupt(given: int) -> None:
        if given == 7:
            raise KeyboardInterrupt

    engine = fake.FakeEngine(before=interrupt)
    made, run = start(tmp_path, engine)
    with pytest.raises(KeyboardInterrupt):
        execute_run(made, engine, run, ignore)
    assert len(run.records()) == 7
    assert not run.manifest.finished


def test_an_engine_that_forgets_a_question_is_an_error(tmp_path: Path) -> None:
    class Forgetful(fake.FakeEngine):  # type: ignore[misc]
        def answer(self, requests: object) -> object:
            return super().answer(list(requests)[1:])  # type: ignore[call-overload]

    engine = Forgetful()
    made, run = start(tmp_path, engine)
    with pytest.raises(BenchError, match="left 1 questions of `exam` unanswered"):
        execute_run(made, engine, run, ignore)
    assert not run.manifest.finished


def test_ten_thousand_stored_answers_are_skipped(tmp_path: Path) -> None:
    engine = fake.FakeEngine()
    made, run = start(tmp_path, engine, 10_001)
    with run.writing():
        for question in made.questions[:-1]:
            run.append(Record(question.id, question.domain, "exam", "ok", True, chosen=0))
    execute_run(made, engine, run, ignore)
    assert [request.id for request in engine.asked] == ["exam-10000"]
    assert len(run.records()) == 10_001
    assert run.manifest.finished


def test_a_disk_that_fills_up_loses_nothing(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    first = fake.FakeEngine(down=5)
    made, run = start(tmp_path, first)
    with pytest.raises(EngineDown):
        execute_run(made, first, run, ignore)
    answers, kept = run.folder / "answers.jsonl", tmp_path / "kept"

    def fill(_: int) -> None:
        if not kept.exists():
            answers.rename(kept)
            answers.symlink_to(full)

    with pytest.raises(BenchError, match=r"the disk is full at `.*answers\.jsonl`; everything"):
        execute_run(made, fake.FakeEngine(before=fill), run, ignore)
    answers.unlink()
    kept.rename(answers)
    assert len(run.records()) == 5
    last = fake.FakeEngine()
    execute_run(made, last, run, ignore)
    assert len(last.asked) == 7
    assert run.manifest.finished


# --- what cannot be asked


@pytest.mark.parametrize(
    ("settings", "info", "said"),
    [
        ({"chat": True}, {"has_chat_template": False}, "`fake/model` has no chat template"),
        ({"domains": ("music",)}, {}, "no question is left to ask"),
        ({"mode": Mode.CLOZE}, {"modes": frozenset({Mode.LETTER})}, "cannot score by `cloze`"),
        ({"shots": 9}, {}, "task `exam` has 3 examples, not 9"),
    ],
)
def test_what_cannot_be_asked_is_said(
    settings: dict[str, object], info: dict[str, object], said: str
) -> None:
    with pytest.raises(Misuse, match=said) as caught:
        prepare_job([fake.task(4)], EvalSettings("fakes", **settings), replace(fake.INFO, **info))
    assert caught.value.hint


def test_a_task_falls_back_to_what_the_engine_can() -> None:
    info = replace(fake.INFO, modes=frozenset({Mode.GENERATE}))
    assert (
        prepare_job([fake.task(2)], EvalSettings("fakes"), info).formats["exam"].mode
        is Mode.GENERATE
    )
    only_cloze = replace(fake.task(2), mode=Mode.CLOZE, modes=frozenset({Mode.CLOZE}))
    with pytest.raises(Misuse, match="cannot score task `exam`, which needs `cloze`"):
        prepare_job([only_cloze], EvalSettings("fakes"), info)


def test_a_question_may_stand_there_only_once() -> None:
    with pytest.raises(Misuse, match="2 questions stand there more than once, `exam-0` for one"):
        prepare_job([fake.task(2), fake.task(3)], EvalSettings("fakes"), fake.INFO)


def test_a_limit_takes_questions_of_every_domain() -> None:
    chosen = job(30, limit=6).questions
    assert Counter(q.domain for q in chosen) == dict.fromkeys(DOMAINS, 2)


@pytest.mark.parametrize(
    ("suite", "model", "start_of_name"),
    [
        ("mmlu", "qwen2.5:3b", "mmlu-qwen2-5-3b-"),
        ("mmlu", "Qwen/Qwen2.5-3B", "mmlu-qwen2-5-3b-"),
        ("mmlu", "C:\\models\\My Model\\", "mmlu-my-model-"),
        ("../../x", "../..", "x-model-"),
        ("demo", "http://127.0.0.1:8000/v1#m:1", "demo-v1-m-1-"),
        ("demo", "🤷", "demo-model-"),
    ],
)
def test_a_run_is_called_so_that_every_system_takes_it(
    suite: str, model: str, start_of_name: str, tmp_path: Path
) -> None:
    info = replace(fake.INFO, model=model)
    made = prepare_job([fake.task(2)], EvalSettings(suite), info)
    name = open_run(made, info, RunStore(tmp_path)).folder.name
    assert name.startswith(start_of_name)
    assert set(name) <= set("abcdefghijklmnopqrstuvwxyz0123456789-")


# --- processes


def script(root: Path, count: int, delay: float, seed: int = 0) -> subprocess.Popen[str]:
    command = [sys.executable, str(SCRIPT), str(root), str(count), str(delay), str(seed)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def only_run(root: Path) -> Run:
    store = RunStore(root)
    (name,) = store.ids()
    return store.get(name)


def answered(root: Path) -> int:
    """Lines of a run that may not have begun."""
    return sum(path.read_bytes().count(b"\n") for path in root.glob("*/*/answers.jsonl"))


def wait_for_answers(root: Path, count: int) -> None:
    wait_for(lambda: answered(root) >= count)


def test_a_kill_at_any_moment_costs_nothing(tmp_path: Path) -> None:
    moments = random.Random(20)
    for number in range(20):
        before = answered(tmp_path / "killed")
        # All sessions together leave time for half of the answers.
        with script(tmp_path / "killed", 300, 0.02) as process:
            if number % 4:
                # Most kills hit the asking; the others anything, the start included.
                assert line(process) == "ready"
                wait_for_answers(tmp_path / "killed", before + 2)
                time.sleep(moments.uniform(0, 0.04))
            else:
                time.sleep(moments.uniform(0.05, 0.4))
            process.kill()
    stored = only_run(tmp_path / "killed")
    assert 0 < len(stored.records()) < 300
    assert not stored.manifest.finished
    for root in ("killed", "undisturbed"):
        with script(tmp_path / root, 300, 0) as process:
            assert line(process) == "ready"
            assert line(process) == stored.folder.name
    undisturbed = only_run(tmp_path / "undisturbed")
    lines = (stored.folder / "answers.jsonl").read_bytes().splitlines()
    ids = [json.loads(row)["id"] for row in lines]
    assert len(ids) == len(set(ids)) == 300
    assert timeless(stored) == timeless(undisturbed)
    assert stored.questions() == undisturbed.questions()
    assert stored.manifest.finished
    a, b = evaluate_run(stored), evaluate_run(undisturbed)
    assert replace(a, seconds=0, forward_tokens=0) == replace(b, seconds=0, forward_tokens=0)


def wait_for(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_the_second_of_two_processes_on_one_run_is_told(tmp_path: Path) -> None:
    with script(tmp_path, 300, 0.05) as first:
        assert line(first) == "ready"
        wait_for(lambda: bool(only_run(tmp_path).records()))
        with script(tmp_path, 300, 0) as second:
            assert line(second) == "ready"
            said = line(second)
        assert f"is being written by process {first.pid} since " in said
        assert "`--fresh`" in said
        assert second.returncode == 1
        assert first.poll() is None
        first.kill()


def test_two_runs_in_one_workspace_do_not_disturb_each_other(tmp_path: Path) -> None:
    with script(tmp_path, 300, 0.001, 1) as first, script(tmp_path, 300, 0.001, 2) as second:
        assert line(first) == line(second) == "ready"
        names = {line(first), line(second)}
    assert (first.returncode, second.returncode) == (0, 0)
    store = RunStore(tmp_path)
    assert set(store.ids()) == names
    for name in names:
        run = store.get(name)
        assert run.manifest.finished
        assert {r.id for r in run.records()} == {q.id for q in run.questions()}
        assert len(run.records()) == 100


def question_ids(questions: tuple[Question, ...]) -> list[str]:
    return [question.id for question in questions]


def test_the_same_settings_choose_the_same_questions() -> None:
    assert question_ids(job(30, limit=7, seed=1).questions) == question_ids(
        job(30, limit=7, seed=1).questions
    )


def test_another_way_of_scoring_than_the_tasks_own_is_said() -> None:
    info = replace(fake.INFO, modes=frozenset({Mode.LETTER}))
    task = replace(fake.task(3), mode=Mode.CLOZE)
    (said,) = scoring_fallbacks(prepare_job([task], EvalSettings("fakes"), info), info)
    assert "scored by `letter`" in said
    assert "cannot score by `cloze`" in said
    asked = prepare_job([task], EvalSettings("fakes", mode=Mode.LETTER), info)
    assert scoring_fallbacks(asked, info) == []


@pytest.mark.parametrize(
    ("marks", "again", "left"),
    [
        (".rx", False, "x"),
        (".rx", True, "rx"),
        ("rr", False, "rr"),
        ("..", True, ""),
        ("rx", False, "rx"),
    ],
)
def test_a_run_that_goes_on_asks_no_refused_prompt_again(
    marks: str, again: bool, left: str
) -> None:
    """`.` was answered, `x` failed, `r` was refused."""
    records = [
        Record(f"{n}{mark}", "d", "t", "ok" if mark == "." else "error", None, refused=mark == "r")
        for n, mark in enumerate(marks)
    ]
    done = settled(records, again)
    assert "".join(r.id[-1] for r in records if r.id not in done) == left
