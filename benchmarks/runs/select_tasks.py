"""Selection of a run's tasks: those of a suite, or those that are named."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.runs.runner import EvalSettings
from benchmarks.runs.suites import load_suite
from benchmarks.tasks.base import Task
from benchmarks.tasks.registry import load_task

if TYPE_CHECKING:
    from knowledge_bases.domains import Domain


def choose_tasks(
    names: Sequence[str] | None,
    settings: EvalSettings,
    domains: Mapping[str, Domain],
    data: Path | None,
) -> tuple[list[Task], EvalSettings]:
    """Load the tasks, and complete the settings with those of the suite.

    Tasks of other domains than the chosen ones are not loaded; those that belong to no domain by
    name are, because only their questions tell.
    """
    if not names:
        suite = load_suite(settings.suite, domains)
        names = suite.tasks
        settings = replace(
            settings,
            suite=suite.name,
            shots=settings.shots if settings.shots is not None else suite.shots,
            mode=settings.mode if settings.mode is not None else suite.mode,
        )
    owners = {task: domain.name for domain in domains.values() for task in domain.tasks}
    wanted = [
        name
        for name in names
        if not settings.domains or owners.get(name, settings.domains[0]) in settings.domains
    ]
    return [load_task(name, data=data, domains=domains) for name in wanted], settings
