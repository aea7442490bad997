"""Validation questions of a job's tasks: what may be tuned on, because it is not reported."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.runs.runner import EvalJob, prepare_job
from benchmarks.tasks.registry import load_optional
from domainlift.text.normalise import without_copies

if TYPE_CHECKING:
    from domainlift.types import Split
    from engines.base import EngineInfo
    from knowledge_bases.domains import Domain


def validation_job(
    job: EvalJob,
    info: EngineInfo,
    data: Path | None,
    domains: dict[str, Domain],
    wanted: Collection[str],
    split: Split = "validation",
    most: int | None = None,
) -> EvalJob | None:
    """A job like this one over at most `most` validation questions of these domains' tasks.

    None where they hold nothing; `split` may be another that is not reported. Copies of reported
    questions are left out: some data sets have them in both splits.
    """
    names = [task.name for task in job.tasks if task.domain in wanted]
    tasks = [load_optional(name, data=data, domains=domains, split=split) for name in names]
    kept = [
        replace(task, questions=tuple(questions))
        for task in tasks
        if task is not None and (questions := without_copies(task.questions, job.questions))
    ]
    if not kept:
        return None
    shots = job.settings.shots
    if shots is not None:
        # The questions of a train split have no examples but one another.
        shots = min(shots, *(len(task.examples) for task in kept))
    settings = replace(
        job.settings, suite=f"{job.settings.suite}-{split}", limit=most, domains=(), shots=shots
    )
    return prepare_job(kept, settings, info)
