"""A run under every treatment that was asked for: the base model, each help alone, and both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from domainlift.errors import Misuse
from improve.retrieve import PassageRun, RetrievalOptions, with_passages
from improve.score import RunOptions, score_job

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.results.run_result import RunResult
    from benchmarks.runs.runner import EvalSettings
    from benchmarks.runs.store import Run
    from benchmarks.tasks.base import Task
    from benchmarks.treatments.base import TreatmentPolicy
    from engines.base import Engine


@dataclass(frozen=True)
class AdaptersByDomain:
    """The adapters of a run, by domain ("" for every other one), and a digest of their weights."""

    names: Mapping[str, str]
    digest: str


def compare_arms(
    tasks: Sequence[Task],
    settings: EvalSettings,
    engine: Engine,
    place: RunOptions,
    choice: RetrievalOptions | None,
    adapters: AdaptersByDomain | None,
) -> RunResult:
    """Score the same questions under each treatment, and compare the last with the first."""
    from benchmarks.results.domain_scores import evaluate_run
    from benchmarks.results.pairing import paired_changes
    from benchmarks.results.run_result import RunResult
    from benchmarks.runs.runner import prepare_job
    from benchmarks.treatments.base import with_adapter

    if place.resume is not None:
        raise Misuse("`--resume` names one run, and this command makes several", "repeat it")
    job = prepare_job(tasks, settings, engine.info)
    runs: dict[str, Run] = {"base": score_job(job, engine, place, part="base")}
    helped: PassageRun | None = None
    if choice is not None:
        helped = with_passages(job, runs["base"], engine, place, choice, _as_it_is)
        runs["passages"] = helped.run
    if adapters is not None:
        names, digest = adapters.names, adapters.digest

        def dress(treater: TreatmentPolicy) -> TreatmentPolicy:
            return with_adapter(treater, names, digest)

        tuned = replace(job, policy=dress(job.policy))
        runs["adapter"] = score_job(tuned, engine, place, part="adapter")
        if choice is not None:
            helped = with_passages(job, runs["adapter"], engine, place, choice, dress)
            runs["adapter + passages"] = helped.run
    profiles = {name: evaluate_run(run, place.target) for name, run in runs.items()}
    last = next(reversed(runs))
    return RunResult(
        profiles[last],
        profiles["base"],
        profiles,
        paired_changes(runs["base"], runs[last]),
        helped.gates if helped is not None else {},
        helped.leaks if helped is not None else (),
    )


def _as_it_is(treater: TreatmentPolicy) -> TreatmentPolicy:
    return treater
