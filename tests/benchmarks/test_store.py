from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import asdict, replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from benchmarks.runs.store import Record, Run, RunManifest, RunStore
from domainlift.errors import BenchError, Malformed, NoSuch
from domainlift.types import Question

MANIFEST = RunManifest(
    run="demo-x-1",
    model="x",
    suite="demo",
    fingerprint={"model": "sha256:00112233445566", "data": "aa"},
    settings={"limit": None},
    engine={"name": "fake"},
    versions={"domainlift": "0"},
    questions=2,
    created="2025-01-01T00:00:00+00:00",
)
QUESTIONS = (
    Question("q1", "history", "exam", "Wer war’s?", ("Ödön", "Zoë"), 1, cluster="p1", support="s"),
    Question("q2", "history", "exam", "6 * 7?", (), "42", split="validation"),
)
RECORD = Record("q1", "history", "exam", "ok", True, logprobs=(-0.5, -2.25), chosen=1)


def made(root: Path, name: str = MANIFEST.run) -> Run:
    return RunStore(root).create(replace(MANIFEST, run=name), QUESTIONS)


def answers(run: Run) -> Path:
    return run.folder / "answers.jsonl"


def append(run: Run, *records: Record) -> None:
    with run.writing():
        for record in records:
            run.append(record)


def test_a_run_is_read_as_it_was_written(tmp_path: Path) -> None:
    made(tmp_path)
    run = RunStore(tmp_path).get(MANIFEST.run)
    assert run.manifest == MANIFEST
    assert run.questions() == list(QUESTIONS)
    assert run.records() == []
    append(run, RECORD)
    assert run.records() == [RECORD]


RECORDS = st.builds(
    Record,
    id=st.text(min_size=1),
    domain=st.text(),
    task=st.text(),
    status=st.sampled_from(["ok", "unparsed", "truncated", "error"]),
    correct=st.none() | st.booleans(),
    chosen=st.none() | st.integers(0, 25) | st.text(),
    correct_raw=st.none() | st.booleans(),
    logprobs=st.lists(st.floats(-1e4, 0)).map(tuple),
    mass=st.none() | st.floats(0, 1),
    text=st.none() | st.text(st.characters(codec=None)),
    prompt_tokens=st.integers(0, 10**6),
    seconds=st.floats(0, 1e6),
    error=st.none() | st.text(),
)


@settings(max_examples=40)
@given(st.lists(RECORDS, unique_by=lambda record: record.id, max_size=5))
def test_any_record_survives_storage(
    tmp_path_factory: pytest.TempPathFactory, records: list[Record]
) -> None:
    run = made(tmp_path_factory.mktemp("store"))
    append(run, *records)
    assert run.records() == records


def test_each_answer_is_on_its_way_to_the_disk_when_append_returns(tmp_path: Path) -> None:
    run = made(tmp_path)
    with run.writing():
        for number in range(3):
            run.append(replace(RECORD, id=f"q{number}"))
            assert len(Run(run.folder).records()) == number + 1


def test_the_later_of_two_records_counts(tmp_path: Path) -> None:
    run = made(tmp_path)
    failed = replace(RECORD, status="error", correct=None, error="busy")
    append(run, failed, replace(RECORD, id="q2"), RECORD)
    assert run.records() == [RECORD, replace(RECORD, id="q2")]


@pytest.mark.parametrize(
    "tail", [b"", b'{"id": "q9"', b"\x00" * 100, b'{"id": "\xc3', b"x" * 200_000]
)
def test_a_torn_last_line_is_dropped_and_cut_off(tail: bytes, tmp_path: Path) -> None:
    run = made(tmp_path)
    append(run, RECORD)
    whole = answers(run).read_bytes()
    answers(run).write_bytes(whole + tail)
    assert run.records() == [RECORD]
    other = replace(RECORD, id="q2")
    append(run, other)
    assert run.records() == [RECORD, other]
    assert answers(run).read_bytes().startswith(whole)


def test_a_line_may_be_torn_at_any_byte_of_its_text(tmp_path: Path) -> None:
    run = made(tmp_path)
    append(run, RECORD, replace(RECORD, id="q2", text="grün 🤷 地"))
    whole = answers(run).read_bytes()
    first = whole.index(b"\n") + 1
    text = whole.index("grün".encode())
    for end in (first, first + 1, *range(text, text + 15), len(whole) - 1):
        answers(run).write_bytes(whole[:end])
        assert run.records() == [RECORD]
        with run.writing():
            assert answers(run).read_bytes() == whole[:first]


@pytest.mark.parametrize("content", [b"", b"x", b'{"id": "q1"'])
def test_a_file_without_a_whole_line_holds_no_answer(content: bytes, tmp_path: Path) -> None:
    run = made(tmp_path)
    answers(run).write_bytes(content)
    assert run.records() == []
    append(run, RECORD)
    assert run.records() == [RECORD]


@pytest.mark.parametrize(
    "line",
    [
        "nonsense",
        "",
        "5",
        "null",
        "[]",
        '{"id": "q2"}',
        '{"id": "q2", "logprobs": null}',
        json.dumps({**asdict(RECORD), "surprise": 1}),
        "[" * 100_000,
    ],
)
def test_a_broken_whole_line_is_named(line: str, tmp_path: Path) -> None:
    run = made(tmp_path)
    append(run, RECORD)
    with answers(run).open("a", encoding="utf-8") as file:
        file.write(line + "\n")
    append(run, RECORD)
    with pytest.raises(Malformed, match=r"answers\.jsonl:2: not a stored record") as caught:
        run.records()
    assert caught.value.hint == "remove that line"


def test_bytes_that_are_no_text_are_named(tmp_path: Path) -> None:
    run = made(tmp_path)
    answers(run).write_bytes(b'{"id": "\xff"}\n')
    with pytest.raises(Malformed, match=r"answers\.jsonl:1: "):
        run.records()


def test_broken_questions_are_named(tmp_path: Path) -> None:
    run = made(tmp_path)
    (run.folder / "questions.jsonl").write_text('{"id": "q1"}\n', encoding="utf-8")
    with pytest.raises(Malformed, match=r"questions\.jsonl:1: not a stored question"):
        run.questions()


@pytest.mark.parametrize("text", ["", "{", "[]", "5", '{"run": "demo-x-1"}', "null"])
def test_a_broken_manifest_says_how_to_be_rid_of_the_run(text: str, tmp_path: Path) -> None:
    run = made(tmp_path)
    (run.folder / "manifest.json").write_text(text, encoding="utf-8")
    with pytest.raises(Malformed, match=r"manifest\.json: not the manifest of a run") as caught:
        _ = run.manifest
    assert caught.value.hint == "remove the run: `bench runs rm demo-x-1`"
    RunStore(tmp_path).remove("demo-x-1")
    assert RunStore(tmp_path).ids() == []


def test_a_manifest_of_a_later_version_may_hold_more(tmp_path: Path) -> None:
    run = made(tmp_path)
    path = run.folder / "manifest.json"
    path.write_text(json.dumps({**asdict(MANIFEST), "later": 1}), encoding="utf-8")
    assert run.manifest == MANIFEST


def test_sessions_add_up(tmp_path: Path) -> None:
    run = made(tmp_path)
    run.finish(seconds=1.5, forward_tokens=10, finished=False, notes=["no logprobs"])
    run.finish(seconds=2.0, forward_tokens=5, finished=True, notes=["no logprobs"])
    assert run.manifest == replace(
        MANIFEST,
        engine={**MANIFEST.engine, "notes": ["no logprobs"]},
        seconds=3.5,
        forward_tokens=15,
        finished=True,
    )


def test_a_full_disk_loses_nothing(tmp_path: Path) -> None:
    full = Path("/dev/full")
    if not full.exists():
        pytest.skip("no /dev/full on this system")
    run = made(tmp_path)
    append(run, RECORD)
    kept = answers(run).rename(tmp_path / "kept")
    answers(run).symlink_to(full)
    other = replace(RECORD, id="q2")
    with pytest.raises(BenchError, match="the disk is full at `") as caught:
        append(run, other)
    assert "repeat the same command" in str(caught.value.hint)
    answers(run).unlink()
    kept.rename(answers(run))
    assert run.records() == [RECORD]
    append(run, other)
    assert run.records() == [RECORD, other]


HOLD = """
import sys
from pathlib import Path
from benchmarks.runs.store import Run
with Run(Path(sys.argv[1])).writing():
    print("held", flush=True)
    sys.stdin.read()
"""


def test_a_second_writer_is_told_who_the_first_is(tmp_path: Path) -> None:
    run = made(tmp_path)
    holder = subprocess.Popen(
        [sys.executable, "-c", HOLD, str(run.folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    with holder:
        assert holder.stdout is not None
        assert holder.stdout.readline().strip() == b"held"
        said = rf"run `demo-x-1` is being written by process {holder.pid} since \d+ s"
        with pytest.raises(BenchError, match=said) as caught:
            append(run, RECORD)
        with pytest.raises(BenchError, match=said):
            RunStore(tmp_path).remove(MANIFEST.run)
        assert "`--fresh`" in str(caught.value.hint)
        holder.kill()
    # The lock goes with its process, however that ended.
    append(run, RECORD)
    assert run.records() == [RECORD]


def test_a_writer_leaves_the_lock_whatever_happens(tmp_path: Path) -> None:
    run = made(tmp_path)
    with pytest.raises(ZeroDivisionError), run.writing():
        raise ZeroDivisionError
    append(run, RECORD)
    assert not (run.folder / "writer.json").exists()


def test_reading_makes_no_folder(tmp_path: Path) -> None:
    store = RunStore(tmp_path / "workspace")
    assert store.ids() == []
    with pytest.raises(NoSuch):
        store.get("x")
    assert not (tmp_path / "workspace").exists()


def test_runs_are_listed_by_age_even_when_an_old_one_goes_on(tmp_path: Path) -> None:
    names = ["c", "a", "b"]
    for second, name in enumerate(names):
        run = made(tmp_path, name)
        os.utime(run.folder / "questions.jsonl", (second, second))
    append(RunStore(tmp_path).get("c"), RECORD)
    assert RunStore(tmp_path).ids() == names


def test_a_folder_without_a_manifest_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "runs" / "half").mkdir(parents=True)
    (tmp_path / "runs" / "file").write_text("", encoding="utf-8")
    made(tmp_path)
    assert RunStore(tmp_path).ids() == ["demo-x-1"]


@pytest.mark.parametrize("name", ["demo-x-2", "../x", "", ".", "/etc"])
def test_an_unknown_run_leads_to_those_that_exist(name: str, tmp_path: Path) -> None:
    made(tmp_path)
    for act in (RunStore(tmp_path).get, RunStore(tmp_path).remove):
        with pytest.raises(NoSuch, match="no run `") as caught:
            act(name)
        assert "`bench runs list` shows all 1" in str(caught.value.hint)


def test_a_workspace_that_cannot_be_one_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(BenchError, match="cannot be written"):
        made(tmp_path / "file")
