"""Split of tasks into selection questions, to choose on, and held-out questions, to report.

Validation questions are for choosing. Where a domain has few of them, test questions join them,
until a third of both is for choosing; which ones depends on their names alone, so that a later
run divides them in the same way. A held-out question is never asked before the end.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.runs.runner import EvalJob, prepare_job
from benchmarks.tasks.base import Task
from benchmarks.tasks.registry import load_optional
from domainlift.sampling import hash_order
from domainlift.text.normalise import dedup_key, without_copies
from domainlift.types import Question, Split
from engines.base import EngineInfo
from knowledge_bases.domains import Domain

#: The share of a domain's questions that is for choosing, at least.
SHARE = 1 / 3


@dataclass(frozen=True)
class EvalSplit:
    """The same tasks with selection questions, and with held-out questions.

    `divided` are the names of tasks without validation questions, whose test questions are divided.
    """

    selection: tuple[Task, ...]
    held_out: tuple[Task, ...]
    divided: tuple[str, ...] = ()

    @property
    def note(self) -> str:
        """A line that says what was divided, and how; "" where nothing was."""
        if not self.divided:
            return ""
        names = [f"`{name}`" for name in self.divided]
        listed = ", ".join(names) if len(names) < 4 else f"{len(names)} tasks"
        chosen, held = self._count(self.selection), self._count(self.held_out)
        return (
            f"{listed}: without validation questions at hand; the test questions are divided by "
            f"a hash of their ids, {chosen:,} for choosing and {held:,} held out"
        )

    def _count(self, tasks: tuple[Task, ...]) -> int:
        return sum(len(task.questions) for task in tasks if task.name in self.divided)


def split_tasks(tasks: Sequence[Task], data: Path | None, domains: dict[str, Domain]) -> EvalSplit:
    """Load the tasks' validation questions and split the tasks."""
    spare = {}
    for task in tasks:
        validation = load_optional(task.name, data=data, domains=domains)
        spare[task.name] = validation.questions if validation is not None else ()
    return split_task(tasks, spare)


def split_task(tasks: Sequence[Task], spare: Mapping[str, Sequence[Question]]) -> EvalSplit:
    """Split, given the validation questions by task; copies of held-out ones are left out."""
    sizes = Counter(q.domain for questions in spare.values() for q in questions)
    moved = _moved([q for task in tasks for q in task.questions], sizes)
    held = [_only(task, [q for q in task.questions if q.id not in moved]) for task in tasks]
    reported = {dedup_key(q.text, q.options) for task in held for q in task.questions}
    selection = []
    for task in tasks:
        own = [*spare.get(task.name, ()), *(q for q in task.questions if q.id in moved)]
        # Some data sets have one question in both splits, with the same id.
        once = {q.id: q for q in own if dedup_key(q.text, q.options) not in reported}
        selection.append(_only(task, list(once.values())))
    divided = tuple(task.name for task in tasks if not spare.get(task.name))
    return EvalSplit(_with_questions(selection), _with_questions(held), divided)


def _moved(questions: Sequence[Question], spare: Counter[str]) -> set[str]:
    """The test questions that are for choosing; those on one passage stay together."""
    by_domain: dict[str, dict[str, list[str]]] = defaultdict(lambda: defaultdict(list))
    for question in questions:
        by_domain[question.domain][question.cluster or question.id].append(question.id)
    moved: set[str] = set()
    for domain, clusters in by_domain.items():
        count = spare[domain]
        wanted = SHARE * (count + sum(map(len, clusters.values()))) - count
        for cluster in sorted(clusters, key=lambda cluster: hash_order(cluster, "selection")):
            if wanted <= 0:
                break
            moved.update(clusters[cluster])
            wanted -= len(clusters[cluster])
    return moved


def _only(task: Task, questions: Sequence[Question]) -> Task:
    return replace(task, questions=tuple(questions))


def _with_questions(tasks: Sequence[Task]) -> tuple[Task, ...]:
    return tuple(task for task in tasks if task.questions)


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
