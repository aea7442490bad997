"""A run under every treatment that was asked for: the base model, each help alone, and both."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from domainlift.errors import Misuse
from improve.retrieve import Choice, Helped, with_passages
from improve.score import Place, scored

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.results.run_result import Outcome
    from benchmarks.runs.runner import Settings
    from benchmarks.runs.store import Run
    from benchmarks.tasks.base import Task
    from benchmarks.treatments.base import Treater
    from engines.base import Engine


@dataclass(frozen=True)
class Adapters:
    """The adapters of a run, by domain ("" for every other one), and a digest of their weights."""

    names: Mapping[str, str]
    digest: str


def compare_arms(
    tasks: Sequence[Task],
    settings: Settings,
    engine: Engine,
    place: Place,
    choice: Choice | None,
    adapters: Adapters | None,
) -> Outcome:
    """Score the same questions under each treatment, and compare the last with the first."""
    from benchmarks.results.domain_scores import profile
    from benchmarks.results.pairing import pair
    from benchmarks.results.run_result import Outcome
    from benchmarks.runs.runner import prepare
    from benchmarks.treatments.base import adapted

    if place.resume is not None:
        raise Misuse("`--resume` names one run, and this command makes several", "repeat it")
    job = prepare(tasks, settings, engine.info)
    runs: dict[str, Run] = {"base": scored(job, engine, place, part="base")}
    helped: Helped | None = None
    if choice is not None:
        helped = with_passages(job, runs["base"], engine, place, choice, _as_it_is)
        runs["passages"] = helped.run
    if adapters is not None:
        names, digest = adapters.names, adapters.digest

        def dress(treater: Treater) -> Treater:
            return adapted(treater, names, digest)

        tuned = replace(job, treater=dress(job.treater))
        runs["adapter"] = scored(tuned, engine, place, part="adapter")
        if choice is not None:
            helped = with_passages(job, runs["adapter"], engine, place, choice, dress)
            runs["adapter + passages"] = helped.run
    profiles = {name: profile(run, place.target) for name, run in runs.items()}
    last = next(reversed(runs))
    return Outcome(
        profiles[last],
        profiles["base"],
        profiles,
        pair(runs["base"], runs[last]),
        helped.gates if helped is not None else {},
        helped.leaks if helped is not None else (),
    )


def _as_it_is(treater: Treater) -> Treater:
    return treater
