"""Ask the questions of a job under a plan's treatments, whatever decides who gets which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from improve.score import Place, scored

if TYPE_CHECKING:
    from benchmarks.runs.runner import Job
    from benchmarks.runs.store import Record, Run
    from benchmarks.treatments.plan import Route
    from domainlift.types import Question
    from engines.base import Engine
    from ensemble.plan import Care
    from ensemble.treatment import Means


@dataclass(frozen=True)
class Asker:
    """Asks one job's questions; what any of its runs has answered is not asked again.

    `base` is the run without a treatment, which is made first. `engine` gives the engine, which
    others may have closed in the meantime. `answers` are by question and request, `leaks` by
    domain and question.
    """

    job: Job
    engine: Callable[[], Engine]
    place: Place
    base: Run
    answers: dict[tuple[str, str], Record]
    leaks: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def of(cls, job: Job, engine: Callable[[], Engine], place: Place, base: Run) -> Asker:
        """Ask a job's questions of which the base run is there."""
        from benchmarks.runs.evaluate_task import answered

        return cls(job, engine, place, base, dict(answered(base.records())))

    def sample(self, most: int) -> Asker:
        """The same on at most so many of the questions, spread over the domains."""
        from benchmarks.runs.sampling import stratified

        questions = self.job.questions
        if len(questions) <= most:
            return self
        return replace(
            self, job=replace(self.job, questions=tuple(stratified(questions, most, seed=2)))
        )

    def ask(self, name: str, route: Route, cares: Mapping[str, Care], means: Means) -> Run:
        """Score all questions, each as the plan says for the domain it is sent to.

        A gate may look at how sure the model is without passages, so that is asked first.
        """
        from benchmarks.treatments import passages as rag
        from benchmarks.treatments.plan import ensemble
        from rag.treatment import Known

        plain = self._plain(name, route, cares, means)
        leaks = self._leaks(route, cares, means)
        known = Known(rag.confidence(plain.records()), leaks, means.options)
        job = replace(self.job, treater=ensemble(name, route, cares, means, known))
        return self._scored(job, name)

    def _plain(self, name: str, route: Route, cares: Mapping[str, Care], means: Means) -> Run:
        """The same without passages, where any gate wants to know; else the base run."""
        from benchmarks.treatments.plan import ensemble
        from rag.treatment import Known

        bare = {domain: without_passages(care) for domain, care in cares.items()}
        sure = any(care.uses_passages and care.gate.confidence < 1 for care in cares.values())
        if not sure or not any(care.uses_adapter for care in bare.values()):
            return self.base
        title = f"{name}, no passages"
        job = replace(self.job, treater=ensemble(title, route, bare, means, Known({}, {})))
        return self._scored(job, title)

    def _scored(self, job: Job, title: str) -> Run:
        from benchmarks.runs.evaluate_task import answered

        run = scored(job, self.engine(), self.place, part=title, known=self.answers)
        self.answers.update(answered(run.records()))
        return run

    def _leaks(self, route: Route, cares: Mapping[str, Care], means: Means) -> dict[str, str]:
        """The chunk in which a question stands, of those that may get passages from there."""
        open_ = {name for name, care in cares.items() if care.uses_passages}
        sent = [replace(q, domain=route.send(q).domain) for q in self.job.questions]
        asked = [q for q in sent if q.domain in open_]
        self._look_up([q for q in asked if (q.domain, q.id) not in self.leaks], means)
        found = {q.id: self.leaks[q.domain, q.id] for q in asked}
        return {question: chunk for question, chunk in found.items() if chunk}

    def _look_up(self, questions: Sequence[Question], means: Means) -> None:
        from benchmarks.treatments import passages as rag

        bases = rag.Bases(means.retrievers, means.budget, means.options)
        found = {leak.question: leak.chunk for leak in rag.find_leaks(questions, bases)}
        self.leaks.update({(q.domain, q.id): found.get(q.id, "") for q in questions})


def without_passages(care: Care) -> Care:
    """The same care with its adapter alone."""
    treatment = "lora" if care.uses_adapter else "base"
    return replace(care, treatment=treatment, knowledge_base="")
