"""Ask the questions of a job under a plan's treatments, whatever decides who gets which."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from improve.score import RunOptions, score_job

if TYPE_CHECKING:
    from benchmarks.runs.runner import EvalJob
    from benchmarks.runs.store import Record, Run
    from benchmarks.treatments.plan import RoutingPolicy
    from domainlift.types import Question
    from engines.base import Engine
    from ensemble.plan import DomainTreatment
    from ensemble.treatment import PlanResources


@dataclass(frozen=True)
class PlanRunner:
    """Asks one job's questions; what any of its runs has answered is not asked again.

    `base` is the run without a treatment, which is made first. `engine` gives the engine, which
    others may have closed in the meantime. `answers` are by question and request, `leaks` by
    domain and question.
    """

    job: EvalJob
    engine: Callable[[], Engine]
    place: RunOptions
    base: Run
    answers: dict[tuple[str, str], Record]
    leaks: dict[tuple[str, str], str] = field(default_factory=dict)

    @classmethod
    def from_base_run(
        cls, job: EvalJob, engine: Callable[[], Engine], place: RunOptions, base: Run
    ) -> PlanRunner:
        """Ask a job's questions of which the base run is there."""
        from benchmarks.runs.evaluate_task import answer_cache

        return cls(job, engine, place, base, dict(answer_cache(base.records())))

    def sample(self, most: int) -> PlanRunner:
        """The same on at most so many of the questions, spread over the domains."""
        from domainlift.sampling import stratified

        questions = self.job.questions
        if len(questions) <= most:
            return self
        return replace(
            self, job=replace(self.job, questions=tuple(stratified(questions, most, seed=2)))
        )

    def run(
        self,
        name: str,
        route: RoutingPolicy,
        cares: Mapping[str, DomainTreatment],
        means: PlanResources,
    ) -> Run:
        """Score all questions, each as the plan says for the domain it is sent to.

        A gate may look at how sure the model is without passages, so that is asked first.
        """
        from benchmarks.treatments import passages as rag
        from benchmarks.treatments.plan import plan_policy
        from rag.treatment import QuestionSignals

        plain = self._plain(name, route, cares, means)
        leaks = self._leaks(route, cares, means)
        known = QuestionSignals(rag.confidence(plain.records()), leaks, means.options)
        job = replace(self.job, policy=plan_policy(name, route, cares, means, known))
        return self._scored(job, name)

    def _plain(
        self,
        name: str,
        route: RoutingPolicy,
        cares: Mapping[str, DomainTreatment],
        means: PlanResources,
    ) -> Run:
        """The same without passages, where any gate wants to know; else the base run."""
        from benchmarks.treatments.plan import plan_policy
        from rag.treatment import QuestionSignals

        bare = {domain: without_passages(care) for domain, care in cares.items()}
        sure = any(care.uses_passages and care.gate.confidence < 1 for care in cares.values())
        if not sure or not any(care.uses_adapter for care in bare.values()):
            return self.base
        title = f"{name}, no passages"
        job = replace(
            self.job, policy=plan_policy(title, route, bare, means, QuestionSignals({}, {}))
        )
        return self._scored(job, title)

    def _scored(self, job: EvalJob, title: str) -> Run:
        from benchmarks.runs.evaluate_task import answer_cache

        run = score_job(job, self.engine(), self.place, part=title, known=self.answers)
        self.answers.update(answer_cache(run.records()))
        return run

    def _leaks(
        self, route: RoutingPolicy, cares: Mapping[str, DomainTreatment], means: PlanResources
    ) -> dict[str, str]:
        """The chunk in which a question stands, of those that may get passages from there."""
        open_ = {name for name, care in cares.items() if care.uses_passages}
        sent = [replace(q, domain=route.send(q).domain or "") for q in self.job.questions]
        asked = [q for q in sent if q.domain in open_]
        self._look_up([q for q in asked if (q.domain, q.id) not in self.leaks], means)
        found = {q.id: self.leaks[q.domain, q.id] for q in asked}
        return {question: chunk for question, chunk in found.items() if chunk}

    def _look_up(self, questions: Sequence[Question], means: PlanResources) -> None:
        from benchmarks.treatments import passages as rag

        bases = rag.OpenKnowledgeBases(means.retrievers, means.budget, means.options)
        found = {leak.question: leak.chunk for leak in rag.contaminated_questions(questions, bases)}
        self.leaks.update({(q.domain, q.id): found.get(q.id, "") for q in questions})


def without_passages(care: DomainTreatment) -> DomainTreatment:
    """The same care with its adapter alone."""
    treatment = "lora" if care.uses_adapter else "base"
    return replace(care, treatment=treatment, knowledge_base="")
