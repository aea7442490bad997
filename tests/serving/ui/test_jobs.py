"""Jobs: their life, and that neither a closed page nor a restarted server loses one."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from domainlift.errors import Misuse, NoSuch
from serving.ui.improve_jobs import Job, JobState, JobStore
from serving.ui.improve_view import improve_arguments
from serving.ui.job_log import STAGES, StageProgress, read_stages, waiting
from tests.serving.ui.conftest import form_fields, wait_for


def ended(store: JobStore, job: Job) -> Job:
    wait_for(lambda: store.get(job.id).state is not JobState.RUNNING)
    return store.get(job.id)


def running(store: JobStore) -> Job:
    job = store.start(["stay"])
    wait_for(lambda: "ready" in job.log())
    return job


@pytest.mark.parametrize(
    ("words", "state"), [(["done"], JobState.DONE), (["fail"], JobState.FAILED)]
)
def test_a_job_ends_by_itself(jobs: JobStore, words: list[str], state: JobState) -> None:
    job = ended(jobs, jobs.start(words))
    assert job.state is state
    assert job.took.endswith(" s")
    assert "[2] training" in job.log()


def test_one_runs_at_a_time_and_is_stopped(jobs: JobStore, tmp_path: Path) -> None:
    job = running(jobs)
    assert job.state is JobState.RUNNING
    other = JobStore(tmp_path, "tiny_program")
    for store in (jobs, other):
        with pytest.raises(Misuse, match="is running"):
            store.start(["done"])
    jobs.stop(job.id)
    assert ended(jobs, job).state is JobState.STOPPED
    with pytest.raises(Misuse, match="not running"):
        jobs.stop(job.id)
    assert ended(jobs, jobs.start(["done"])).state is JobState.DONE


def test_a_restarted_server_knows_its_job(jobs: JobStore, tmp_path: Path) -> None:
    job = running(jobs)
    later = JobStore(tmp_path, "tiny_program")
    found = later.get(job.id)
    assert found.state is JobState.RUNNING
    assert found.command == "bench stay"
    later.stop(job.id)
    assert ended(later, job).state is JobState.STOPPED


def test_a_killed_job_is_known_as_such(jobs: JobStore) -> None:
    job = running(jobs)
    (folder,) = {path.parent for path in job.folder.parent.glob("*/job.json")}
    assert folder == job.folder
    os.kill(jobs._children[0].pid, signal.SIGKILL)
    assert ended(jobs, job).state is JobState.KILLED
    assert ended(jobs, jobs.start(["done"])).state is JobState.DONE


def test_a_job_does_not_belong_to_the_session_of_the_server(jobs: JobStore) -> None:
    running(jobs)
    child = jobs._children[0].pid
    assert os.getsid(child) == child != os.getsid(0)


def test_unknown_and_broken_jobs(jobs: JobStore, tmp_path: Path) -> None:
    for name in ("nope", "../runs"):
        with pytest.raises(NoSuch):
            jobs.get(name)
    for text in ("{", "[]", '{"pid": 1}'):
        folder = tmp_path / "jobs" / f"broken-{len(text)}"
        folder.mkdir(parents=True)
        (folder / "job.json").write_text(text, encoding="utf-8")
    assert jobs.jobs() == []


def test_the_pages_follow_a_job(client: TestClient, jobs: JobStore) -> None:
    fields = form_fields(client.get("/improve").text)
    done = client.post("/improve", data={**fields, "model": "tiny", "suite": "demo"})
    assert done.status_code == 303
    job = ended(jobs, jobs.jobs()[0])
    assert job.arguments[:3] == ("improve", "--model=tiny", "--suite=demo")
    page = client.get(done.headers["location"]).text
    assert "baseline" in page
    assert 'href="/reports/a-vs-b"' in page
    assert "<script>alert" not in page
    assert "Stop it" not in page
    live = running(jobs)
    for path in (f"/improve/{live.id}", f"/improve/{live.id}/progress"):
        page = client.get(path).text
        assert 'data-live="yes"' in page
        assert "5 of 10" in page
        assert "4 s left" in page
        assert "held-out questions" in page
    assert "A job is running" in client.get("/improve").text
    again = client.post(f"/improve/{job.id}/again", data=fields)
    assert again.status_code == 400
    assert client.post(f"/improve/{live.id}/stop", data=fields).status_code == 303
    assert ended(jobs, live).state is JobState.STOPPED
    assert "Start it again" in client.get(f"/improve/{live.id}").text
    assert client.post(f"/improve/{job.id}/again", data=fields).status_code == 303
    assert ended(jobs, jobs.jobs()[0]).arguments == job.arguments
    assert client.get("/improve/nope").status_code == 404


def test_a_form_becomes_a_command(tmp_path: Path) -> None:
    fields = {"model": " m ", "docs": str(tmp_path), "suite": "", "limit": "40"}
    fields |= {"budget-minutes": "0.5", "skip-train": "yes"}
    assert improve_arguments(fields, Path("/w")) == [
        "improve",
        "--model=m",
        f"--docs={tmp_path}",
        "--workspace=/w",
        "--limit=40",
        "--budget-minutes=0.5",
        "--skip-train",
    ]
    hostile = improve_arguments({"model": "--help", "suite": "--json; rm"}, Path("/w"))
    assert hostile == ["improve", "--model=--help", "--suite=--json; rm", "--workspace=/w"]


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"suite": "demo"},
        {"model": "m"},
        {"model": "m", "docs": "/", "suite": "demo"},
        {"model": "m", "docs": "/no/such/folder"},
        {"model": "m", "suite": "demo", "limit": "1"},
        {"model": "m", "suite": "demo", "limit": "many"},
        {"model": "m", "suite": "demo", "budget-minutes": "nan"},
        {"model": "m", "suite": "demo", "budget-minutes": "inf"},
    ],
)
def test_a_wrong_form_is_told(fields: dict[str, str]) -> None:
    with pytest.raises(Misuse):
        improve_arguments(fields, Path("/w"))


LOG = """exam `h` (0a): 9 facts
[1] baseline
… loading `m`, 3 s
own  1/411  0.172/s  39 min 46 s left
… baseline, 9 s
Scored 411 questions (rag, passages: 1) in 10 s, 41.5/s
[2] knowledge bases
own  embed  80/83
    own: 83 chunks in 10.6 s
"""


def test_a_log_is_read_by_stages() -> None:
    first, score, bases = read_stages(LOG)
    assert (first.name, first.text) == ("preparation", "exam `h` (0a): 9 facts")
    assert score.progress == StageProgress("own", 1, 411, "39 min 46 s")
    assert score.text == "Scored 411 questions (rag, passages: 1) in 10 s, 41.5/s"
    assert bases.progress == StageProgress("own embed", 80, 83)
    assert [*waiting([first, score, bases])][:2] == ["triage", "training"]
    assert [each.name for each in read_stages("")] == ["preparation"]
    assert [*waiting(read_stages(""))] == [*STAGES]


def test_the_stages_are_those_of_the_loop() -> None:
    import re

    loop = Path(__file__).parents[3] / "improve" / "loop.py"
    names = re.findall(r'timer\.stage\("(.+?)"\)', loop.read_text(encoding="utf-8"))
    assert tuple(names) == STAGES
