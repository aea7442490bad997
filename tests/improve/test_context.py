"""Context of the loop: the domains that a suite has to do with."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.held_out.gate import GateCriteria
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
