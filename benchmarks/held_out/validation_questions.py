"""Validation questions of a job's tasks: what may be tuned on, because it is not reported."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.runs.runner import EvalJob, prepare_job
from benchmarks.tasks.registry import load_validation
from domainlift.text.normalise import without_copies

if TYPE_CHECKING:
    from engines.base import EngineInfo
    from knowledge_bases.domains import Domain


def validation_job(
    job: EvalJob,
    info: EngineInfo,
    data: Path | None,
    domains: dict[str, Domain],
    wanted: Collection[str],
) -> EvalJob | None:
    """A job like this one over the validation questions of these domains' tasks.

    None where they hold nothing. Copies of reported questions are left out: some data sets have
    them in both splits.
    """
    names = [task.name for task in job.tasks if task.domain in wanted]
    tasks = [load_validation(name, data=data, domains=domains) for name in names]
    kept = [
        replace(task, questions=tuple(questions))
        for task in tasks
        if task is not None and (questions := without_copies(task.questions, job.questions))
    ]
    if not kept:
        return None
    settings = replace(
        job.settings, suite=f"{job.settings.suite}-validation", limit=None, domains=()
    )
    return prepare_job(kept, settings, info)
