"""Runner of one job's questions under the treatments of a plan, whatever routes them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from benchmarks.runs.evaluate_task import answer_cache
from benchmarks.runs.runner import EvalJob
from benchmarks.runs.store import Record, Run
from benchmarks.treatments.gate_calibration import confidence, contaminated_questions
from benchmarks.treatments.plan import RoutingPolicy, plan_policy
from domainlift.sampling import stratified
from domainlift.types import Question
from engines.base import Engine
from ensemble.plan import DomainTreatment
from ensemble.treatment import PlanResources
from improve.options import RunOptions
from improve.score import score_job
from rag.contamination import Leak
from rag.treatment import QuestionSignals


@dataclass(frozen=True)
class PlanRunner:
    """Runs one job under different treatments; no request is sent twice.

    `base` is the run without treatments, made first. `engine` gives the engine, which may have
    been closed in the meantime. `answers` are by question and request; `leaks` are by domain and
    question, None where a question was looked for and does not stand in that knowledge base.
    """

    job: EvalJob
    engine: Callable[[], Engine]
    options: RunOptions
    base: Run
    answers: dict[tuple[str, str], Record]
    leaks: dict[tuple[str, str], Leak | None] = field(default_factory=dict)

    @classmethod
    def from_base_run(
        cls, job: EvalJob, engine: Callable[[], Engine], options: RunOptions, base: Run
    ) -> PlanRunner:
        """Make a runner from a job whose base run exists."""
        return cls(job, engine, options, base, dict(answer_cache(base.records())))

    def sample(self, most: int) -> PlanRunner:
        """The same on at most `most` of the questions, spread over the domains."""
        questions = self.job.questions
        if len(questions) <= most:
            return self
        job = replace(self.job, questions=tuple(stratified(questions, most, seed=2)))
        return replace(self, job=job)

    def run(
        self,
        name: str,
        routing: RoutingPolicy,
        treatments: Mapping[str, DomainTreatment],
        resources: PlanResources,
    ) -> Run:
        """Score all questions, each under the treatment of the domain it is routed to.

        A gate may depend on the model's confidence without passages, so that is asked first.
        """
        plain = self._without_passages(name, routing, treatments, resources)
        leaks = self._leaked_chunks(routing, treatments, resources)
        signals = QuestionSignals(confidence(plain.records()), leaks, resources.options)
        policy = plan_policy(name, routing, treatments, resources, signals)
        return self._score(replace(self.job, policy=policy), name)

    def leaks_of(self, domains: Sequence[str]) -> tuple[Leak, ...]:
        """The questions that stand in the knowledge bases of these domains, as far as searched."""
        return tuple(
            leak
            for (domain, _), leak in self.leaks.items()
            if leak is not None and domain in domains
        )

    def _without_passages(
        self,
        name: str,
        routing: RoutingPolicy,
        treatments: Mapping[str, DomainTreatment],
        resources: PlanResources,
    ) -> Run:
        """The same without passages, where a gate needs it; else the base run."""
        bare = {domain: each.without_passages() for domain, each in treatments.items()}
        needed = any(
            each.uses_passages and each.gate.confidence < 1 for each in treatments.values()
        )
        if not needed or not any(each.uses_adapter for each in bare.values()):
            return self.base
        title = f"{name}, no passages"
        policy = plan_policy(title, routing, bare, resources, QuestionSignals({}, {}))
        return self._score(replace(self.job, policy=policy), title)

    def _score(self, job: EvalJob, title: str) -> Run:
        run = score_job(job, self.engine(), self.options, part=title, known=self.answers)
        self.answers.update(answer_cache(run.records()))
        return run

    def _leaked_chunks(
        self,
        routing: RoutingPolicy,
        treatments: Mapping[str, DomainTreatment],
        resources: PlanResources,
    ) -> dict[str, str]:
        """By question, the chunk in which it stands, of questions that may get passages there."""
        with_passages = {name for name, each in treatments.items() if each.uses_passages}
        routed = [replace(q, domain=routing.send(q).domain or "") for q in self.job.questions]
        searched = [q for q in routed if q.domain in with_passages]
        self._search([q for q in searched if (q.domain, q.id) not in self.leaks], resources)
        leaks = {q.id: self.leaks[q.domain, q.id] for q in searched}
        return {question: leak.chunk for question, leak in leaks.items() if leak is not None}

    def _search(self, questions: Sequence[Question], resources: PlanResources) -> None:
        found = {
            leak.question: leak for leak in contaminated_questions(questions, resources.retrievers)
        }
        self.leaks.update({(q.domain, q.id): found.get(q.id) for q in questions})
