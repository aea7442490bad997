"""Ask the questions of a job under a plan's treatments, whatever decides who gets which."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from bench.scored import Place, scored

if TYPE_CHECKING:
    from benchmarks.ensemble import Route
    from benchmarks.runner import Job
    from benchmarks.store import Record, Run
    from engines.base import Engine
    from ensemble.plan import Care
    from ensemble.treatment import Means
    from rag.treatment import Known


@dataclass(frozen=True)
class Asker:
    """Asks one job's questions; what any of its runs has answered is not asked again.

    `base` is the run without a treatment, which is made first.
    """

    job: Job
    engine: Engine
    place: Place
    base: Run

    def sample(self, most: int) -> Asker:
        """The same on at most so many of the questions, spread over the domains."""
        from benchmarks.sampling import stratified

        questions = self.job.questions
        if len(questions) <= most:
            return self
        return replace(
            self, job=replace(self.job, questions=tuple(stratified(questions, most, seed=2)))
        )

    def ask(
        self, name: str, route: Route, cares: Mapping[str, Care], means: Means, also: Iterable[Run]
    ) -> Run:
        """Score all questions, each as the plan says for the domain it is sent to.

        A gate may look at how sure the model is without passages, so that is asked first.
        """
        from benchmarks.ensemble import ensemble

        runs = [self.base, *also]
        plain = self._plain(name, route, cares, means, runs)
        known = _told(self.job, plain, route, means)
        job = replace(self.job, treater=ensemble(name, route, cares, means, known))
        return self._scored(job, name, [*runs, plain])

    def _plain(
        self, name: str, route: Route, cares: Mapping[str, Care], means: Means, runs: list[Run]
    ) -> Run:
        """The same without passages, where any gate wants to know; else the base run."""
        from benchmarks.ensemble import ensemble
        from rag.treatment import Known

        bare = {domain: without_passages(care) for domain, care in cares.items()}
        sure = any(care.uses_passages and care.gate.confidence < 1 for care in cares.values())
        if not sure or not any(care.uses_adapter for care in bare.values()):
            return self.base
        title = f"{name}, no passages"
        job = replace(self.job, treater=ensemble(title, route, bare, means, Known({}, {})))
        return self._scored(job, title, runs)

    def _scored(self, job: Job, title: str, runs: Iterable[Run]) -> Run:
        from benchmarks.asking import answered

        known: dict[tuple[str, str], Record] = {}
        for run in runs:
            known.update(answered(run.records()))
        return scored(job, self.engine, self.place, part=title, known=known)


def without_passages(care: Care) -> Care:
    """The same care with its adapter alone."""
    treatment = "lora" if care.uses_adapter else "base"
    return replace(care, treatment=treatment, knowledge_base="")


def _told(job: Job, plain: Run, route: Route, means: Means) -> Known:
    """What gates may know: how sure the model is, and which questions stand in the sources."""
    from benchmarks import rag
    from rag.treatment import Known

    bases = rag.Bases(means.retrievers, means.budget)
    sent = [replace(question, domain=route(question).domain) for question in job.questions]
    leaks = rag.find_leaks(sent, bases)
    sure = rag.confidence(plain.records())
    return Known(sure, {leak.question: leak.chunk for leak in leaks})
