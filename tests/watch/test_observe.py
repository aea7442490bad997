from __future__ import annotations

import json
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from engines.registry import current_digest
from improve.feedback.marks import FeedbackStore, MarkState
from improve.feedback.reply_log import ServedReply
from improve.material import MADE_OF, domain_material
from improve.versions.decision_log import Decision
from improve.versions.version import State
from improve.versions.version_log import VersionRegistry
from tests.improve.versions.test_version_log import plan
from watch.observe import Observed, observe

DOMAIN = "title: Canon\ndescription: Laws.\ntasks: [own:canon]\nkeywords: [law]\n"
NOW = datetime(2026, 6, 1, tzinfo=UTC).isoformat()


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A domain of its own with ten questions and five rows, and a model in a folder."""
    monkeypatch.chdir(tmp_path)
    model = tmp_path / "base"
    model.mkdir()
    (model / "model.safetensors").write_bytes(b"weights")
    folder = tmp_path / "ws" / "domains" / "canon"
    folder.mkdir(parents=True)
    (folder / "domain.yaml").write_text(DOMAIN)
    write(folder, 10, 5)
    path = plan(Path("ws"), "one", model="base", domain="canon", digest=current_digest("base"))
    VersionRegistry(Path("ws")).register(path, State.CHAMPION, "improve", "better")
    return folder


def write(folder: Path, questions: int, rows: int) -> None:
    splits = ["test"] * questions + ["train"] * rows
    made = (
        {"question": f"{i}?", "options": ["a", "b"], "answer": 0, "split": split}
        for i, split in enumerate(splits)
    )
    (folder / "questions.jsonl").write_text("".join(json.dumps(row) + "\n" for row in made))


def look(*decisions: Decision) -> Observed:
    return observe(Path("ws"), VersionRegistry(Path("ws")).versions(), decisions)


def test_what_was_there_when_a_version_was_made_is_not_new(served: Path) -> None:
    seen = look()
    assert (seen.questions, seen.rows, seen.base_changed, seen.corrections) == (0, 0, False, 0)
    write(served, 13, 9)
    assert (look().questions, look().rows) == (3, 4)
    write(served, 8, 0)
    assert (look().questions, look().rows) == (0, 0)


def test_what_a_loop_made_nothing_of_is_not_new_either(served: Path) -> None:
    write(served, 13, 9)
    seen = look()
    rejected = Decision(
        NOW, "reject", "", "v0001", inputs=seen.inputs, consumed=(seen.digest("material"),)
    )
    assert (look(rejected).questions, look(rejected).rows) == (0, 0)
    other = replace(rejected, consumed=(seen.digest("documents"),))
    assert (look(other).questions, look(other).rows) == (3, 4)
    write(served, 14, 9)
    assert (look(rejected).questions, look(rejected).rows) == (1, 0)


def test_another_model_under_the_name_is_seen_and_files_are_hashed_once(
    served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = Decision(NOW, "nothing", "", "v0001", inputs=look().inputs)
    path = served.parents[2] / "base" / "model.safetensors"
    path.write_bytes(b"others!")
    os.utime(path, (1, 1))
    seen = look(first)
    assert seen.base_changed
    assert seen.digest("base") != look().digest("documents")
    monkeypatch.setattr("watch.observe.current_digest", None)  # would fail
    again = look(first, replace(first, inputs=seen.inputs))
    assert again.base_changed


def test_a_prepared_data_set_counts_unless_the_loop_made_it(served: Path) -> None:
    folder = Path("ws/data/canon")
    folder.mkdir(parents=True)
    (folder / "train.jsonl").write_text("{}\n" * 7)
    assert look().rows == 7
    (folder / MADE_OF).write_text("{}")
    assert look().rows == 0


def test_accepted_marks_count(served: Path) -> None:
    assert "feedback" not in domain_material(["canon"], [], Path("ws"))
    store = FeedbackStore(Path("ws"))
    who = ("r1", NOW, "v0001", "", "base", "What is law?", "It is this.", "law")
    mark = store.add(ServedReply(*who, None, True, None), "right")
    assert look().corrections == 0
    store.decide(mark, MarkState.ACCEPTED, "rows of `law`")
    assert look().corrections == 1


def test_a_broken_line_is_a_question(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"split": "train"}\n\nno json\n[]\n')
    (found,) = domain_material([], [str(path), "mmlu:anatomy"], tmp_path).values()
    assert (found["questions"], found["rows"]) == (2, 1)


def test_material_keeps_its_name_where_a_workspace_is_moved(tmp_path: Path) -> None:
    first, second = tmp_path / "a", tmp_path / "b"
    found = []
    for workspace in (first, second):
        path = workspace / "exams" / "works" / "works.jsonl"
        path.parent.mkdir(parents=True)
        path.write_text('{"question": "Who?"}\n', encoding="utf-8")
        found.append(domain_material(["biology"], [str(path)], workspace))
    assert found[0] == found[1]
    assert set(found[0]) == {"exams/works/works.jsonl", "biology/questions.jsonl"}
