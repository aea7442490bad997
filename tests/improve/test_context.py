"""Context of the loop: the domains that a suite has to do with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.held_out.gate import GateCriteria
from domainlift.errors import Misuse
from improve.context import prepare_context
from improve.options import ImproveOptions, RunOptions
from knowledge_bases.domains import load_domains

HANDBOOK = {"everyday", "handbook", "language"}


@pytest.mark.parametrize(
    ("suite", "expected"),
    [("handbook", HANDBOOK), ("demo", load_domains().keys() - HANDBOOK)],
)
def test_only_the_domains_of_the_suite_are_trained_protected_and_routed_to(
    tmp_path: Path, suite: str, expected: set[str]
) -> None:
    options = ImproveOptions(GateCriteria(), own=True)
    context = prepare_context(suite, None, RunOptions(tmp_path), options)
    assert set(context.domains) == expected


def test_one_domain_of_the_handbook_is_told_from_the_others(tmp_path: Path) -> None:
    suite = tmp_path / "alone.yaml"
    suite.write_text("tasks: [own:handbook]\n", encoding="utf-8")
    options = ImproveOptions(GateCriteria(), own=True)
    context = prepare_context(str(suite), None, RunOptions(tmp_path), options)
    assert {row.domain for row in context.labelled} == HANDBOOK


def questions(path: Path, n: int) -> str:
    rows = [
        {"question": f"What is thing {i}?", "options": ["a", "b", f"c{i}"], "answer": 2}
        for i in range(n)
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return str(path)


def test_a_file_of_questions_is_a_domain_beside_those_of_the_suite(tmp_path: Path) -> None:
    firm = questions(tmp_path / "firm.jsonl", 30)
    options = ImproveOptions(GateCriteria(), own=True, tasks=(firm,))
    context = prepare_context("handbook", None, RunOptions(tmp_path), options)
    assert set(context.domains) == {*HANDBOOK, "firm"}
    assert context.options.only == ("firm",)
    held = {question.domain for task in context.split.held_out for question in task.questions}
    assert held == set(context.domains)
    assert sum(len(task.questions) for task in context.split.selection if task.name == firm) == 10


def test_a_file_of_questions_alone_is_told_from_the_built_in_ones(tmp_path: Path) -> None:
    firm = questions(tmp_path / "firm.jsonl", 30)
    options = ImproveOptions(GateCriteria(), tasks=(firm,))
    context = prepare_context("", None, RunOptions(tmp_path), options)
    assert {task.name for task in context.split.held_out} == {firm}
    assert {row.domain for row in context.labelled} > {"firm"}


def test_a_file_that_is_too_short_is_named(tmp_path: Path) -> None:
    options = ImproveOptions(GateCriteria(), tasks=(questions(tmp_path / "firm.jsonl", 1),))
    with pytest.raises(Misuse, match="the file has too few questions"):
        prepare_context("", None, RunOptions(tmp_path), options)
