"""Tasks of an agent: files of questions, and whether an answer is right."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from domainlift.errors import Malformed
from traces.tasks import is_solved, read_agent_tasks, task_text


def test_tasks_of_a_text_are_lines(tmp_path: Path) -> None:
    path = tmp_path / "tasks.txt"
    path.write_text("One.\n\n  Two.  \nOne.\n")
    tasks = read_agent_tasks(path)
    assert [task.text for task in tasks] == ["One.", "Two.", "One."]
    assert len({task.id for task in tasks}) == 3


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ({"question": "a", "anwser": "b"}, "did you mean `answer`"),
        ({"question": "a", "tools": [{"name": "f"}]}, "`--mcp`"),
        ({"answer": "b"}, "no `question`"),
        ({"id": "x", "question": "b"}, "id `x` stands already on line 1"),
    ],
)
def test_a_task_that_cannot_be_read_is_named(
    tmp_path: Path, row: dict[str, object], what: str
) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(f'{{"id": "x", "question": "a"}}\n{json.dumps(row)}\n')
    with pytest.raises(Malformed, match=what) as error:
        read_agent_tasks(path)
    assert "tasks.jsonl:2" in error.value.what


@pytest.mark.parametrize(
    ("row", "reply", "solved"),
    [
        ({}, "anything", None),
        ({"answer": "42"}, "So the answer is 42.", True),
        ({"answer": "42"}, "It is 41.", False),
        ({"answer": "42"}, "", False),
        ({"answer": ["Oslo", "Christiania"]}, "Christiania", True),
        ({"options": ["red", "blue"], "answer": "blue"}, "B", True),
        ({"options": ["red", "blue"], "answer": "blue"}, "The answer is A.", False),
    ],
)
def test_a_final_answer_is_checked_as_replies_are(
    tmp_path: Path, row: dict[str, object], reply: str, solved: bool | None
) -> None:
    path = tmp_path / "tasks.jsonl"
    path.write_text(json.dumps({"question": "What?", **row}) + "\n")
    [task] = read_agent_tasks(path)
    assert is_solved(task, reply) is solved
    assert ("A. red\nB. blue" in task_text(task)) == ("options" in row)
