from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from benchmarks.prompts import PromptBuilder, PromptFormat
from benchmarks.runs.suites import load_suite
from benchmarks.tasks import hub_or_mirror, mmlu_pro
from benchmarks.tasks.base import NoSplit, Task
from benchmarks.tasks.mmlu_pro import CATEGORIES
from benchmarks.tasks.registry import BENCHMARKS, load_task, task_names
from domainlift.errors import Malformed, NoSuch
from domainlift.types import Split, Treatment
from engines.base import Mode
from knowledge_bases.domains import load_domains


def row(number: int, category: str, options: int = 10) -> dict[str, Any]:
    """A row in the form of the hub."""
    right = number % options
    return {
        "question_id": number,
        "question": f"{category} {number}?",
        "options": [f"choice {n}" for n in range(options)],
        "answer": "ABCDEFGHIJ"[right],
        "answer_index": right,
        "cot_content": f"A: Let's think step by step. The answer is ({'ABCDEFGHIJ'[right]}).",
        "category": category,
        "src": "stemez",
    }


FEW = [row(n, category) for category in ("biology", "computer science") for n in range(5)]
TEST = [row(9, "biology"), row(12, "computer science", options=4), row(13, "biology")]


def write(data: Path, split: str, rows: Sequence[Mapping[str, Any]]) -> Path:
    path = data / "mmlu_pro" / f"{split}.jsonl"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(each) + "\n" for each in rows), encoding="utf-8")
    return path


@pytest.fixture
def data(tmp_path: Path) -> Path:
    write(tmp_path, "validation", FEW)
    write(tmp_path, "test", TEST)
    return tmp_path


def load(name: str, data: Path | None, split: Split = "test") -> Task:
    return load_task(name, data=data, domains={}, split=split)


def test_the_benchmark_is_one_small_file_and_one_line() -> None:
    assert mmlu_pro.__file__ is not None
    assert len(Path(mmlu_pro.__file__).read_text(encoding="utf-8").splitlines()) <= 30
    assert BENCHMARKS["mmlu_pro"] == "benchmarks.tasks.mmlu_pro:MMLU_PRO"


def test_the_guide_shows_the_file_as_it_is() -> None:
    guide = (Path(__file__).parents[2] / "docs" / "domains.md").read_text(encoding="utf-8")
    _, _, example = guide.partition("```python\n")
    assert mmlu_pro.__file__ is not None
    assert example.partition("```")[0] in Path(mmlu_pro.__file__).read_text(encoding="utf-8")


def test_a_category_has_its_questions_and_its_examples(data: Path) -> None:
    task = load("mmlu_pro:biology", data)
    assert [q.text for q in task.questions] == ["biology 9?", "biology 13?"]
    assert [q.answer for q in task.questions] == [9, 3]
    assert [e.question.text for e in task.examples] == [f"biology {n}?" for n in range(5)]
    assert (task.mode, task.modes, task.shots) == (Mode.LETTER, frozenset(Mode), 5)
    spaced = load("mmlu_pro:computer_science", data)
    assert [len(q.options) for q in spaced.questions] == [4]
    assert "about computer science." in spaced.description


def test_the_whole_shows_one_example_of_each_category_in_turn(data: Path) -> None:
    task = load("mmlu_pro", data)
    assert len(task.questions) == 3
    assert [e.question.text for e in task.examples[:3]] == [
        "biology 0?",
        "computer science 0?",
        "biology 1?",
    ]


def test_the_letters_go_as_far_as_the_options(data: Path) -> None:
    task = load("mmlu_pro:biology", data)
    builder = PromptBuilder(task, PromptFormat(Mode.LETTER, shots=5, chat=False))
    request = builder.request(task.questions[0], Treatment())
    assert request.options == tuple(f" {letter}" for letter in "ABCDEFGHIJ")
    assert request.prompt.text.endswith("\nI. choice 8\nJ. choice 9\nAnswer:")
    assert request.prompt.text.startswith(
        "The following are multiple choice questions (with answers) about biology.\n\nbiology 0?\n"
    )


def test_there_is_no_validation_split_beside_the_examples(data: Path) -> None:
    assert len(load("mmlu_pro:biology", data, "train").questions) == 5
    assert load("mmlu_pro:biology", data, "train").examples == ()
    with pytest.raises(NoSplit, match="`mmlu_pro:biology` has no validation split"):
        load("mmlu_pro:biology", data, "validation")


def test_the_hub_gives_the_same_task_as_a_mirror(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str | None, str]] = []

    def hub_split(path: str, config: str | None, split: str, *, layout: str) -> list[Any]:
        asked.append((path, config, split))
        assert (data / layout).is_file()
        return {"test": TEST, "validation": FEW}[split]

    monkeypatch.setattr(hub_or_mirror, "hub_split", hub_split)
    assert load("mmlu_pro:biology", None) == load("mmlu_pro:biology", data)
    assert asked == [
        ("TIGER-Lab/MMLU-Pro", None, "test"),
        ("TIGER-Lab/MMLU-Pro", None, "validation"),
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"answer_index": 10}, "row is no question"),
        ({"options": "abc"}, "row is no question"),
        ({"options": ["a"], "answer_index": 0}, "row has 1 options instead of 2 to 26"),
        ({"options": ["a"] * 27, "answer_index": 0}, "row has 27 options instead of 2 to 26"),
    ],
)
def test_a_broken_row_is_named(data: Path, change: dict[str, Any], message: str) -> None:
    write(data, "test", [*TEST, {**row(1, "biology"), **change}])
    with pytest.raises(Malformed, match=f"test.jsonl:4: {message}"):
        load("mmlu_pro:biology", data)


def test_the_names_come_from_the_benchmark() -> None:
    names = [name for name in task_names({}) if name.startswith("mmlu_pro")]
    assert len(names) == 15
    assert {"mmlu_pro", "mmlu_pro:computer_science"} <= set(names)
    with pytest.raises(NoSuch, match="no task `mmlu_pro:biolgy`") as caught:
        load("mmlu_pro:biolgy", None)
    assert "did you mean `mmlu_pro:biology`?" in str(caught.value.hint)


def test_a_category_belongs_to_a_shipped_domain(data: Path) -> None:
    domains = load_domains()
    assert set(CATEGORIES.values()) <= set(domains)
    task = load_task("mmlu_pro:biology", data=data, domains=domains)
    assert {task.domain, *(q.domain for q in task.questions)} == {"biology"}
    assert load_task("mmlu_pro", data=data, domains=domains).domain == "general"


def test_no_suite_and_no_domain_asks_it_by_default() -> None:
    domains = load_domains()
    suites = [load_suite(name, domains).tasks for name in ("demo", "mmlu", "full")]
    listed = [domain.tasks for domain in domains.values()]
    assert not [task for tasks in (*suites, *listed) for task in tasks if "mmlu_pro" in task]
