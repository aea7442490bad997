"""Context of the loop: the split tasks and the user's options."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from benchmarks.held_out.split import EvalSplit, split_tasks
from benchmarks.runs.runner import EvalSettings
from benchmarks.runs.suites import choose_tasks
from benchmarks.tasks.base import Task
from domainlift.errors import Misuse, NoSuch
from ensemble.fit.training_data import Labelled
from improve.options import ImproveOptions, RunOptions
from improve.route import learnable
from knowledge_bases.domains import Domain, bare_domain, companions, load_domains

SELECTION, HELD_OUT = "selection", "held out"


@dataclass(frozen=True)
class ImproveContext:
    """Inputs of the loop; a router is fitted on the `labelled` questions.

    `task_digests` identify each task's data, by which uses of its held-out questions are counted.
    `strengths` are the domains that are shown to be known, and not treated, once that is measured.
    """

    settings: EvalSettings
    split: EvalSplit
    domains: dict[str, Domain]
    run_options: RunOptions
    options: ImproveOptions
    labelled: Sequence[Labelled]
    task_digests: Mapping[str, str]
    limit: int | None = None
    strengths: tuple[str, ...] = ()

    def limit_of(self, part: str) -> int | None:
        """How many questions of a part are asked at most: a third is for selection."""
        if self.limit is None:
            return None
        selection = max(1, self.limit // 3)
        return selection if part == SELECTION else self.limit - selection


def prepare_context(
    suite: str,
    limit: int | None,
    run_options: RunOptions,
    options: ImproveOptions,
    command: str = "",
) -> ImproveContext:
    """Load and split the tasks; Misuse where the loop could not come to an end with them.

    `suite` is "" where the tasks of the options are all that is asked.
    """
    domains = load_domains(run_options.workspace)
    if options.own:
        domains = {name: replace(domain, sources=()) for name, domain in domains.items()}
    settings = EvalSettings(suite="tasks", command=command)
    data = run_options.data
    own, _ = choose_tasks(options.tasks, settings, domains, data) if options.tasks else ([], None)
    tasks = own
    if suite:
        common = replace(settings, suite=suite)
        others, settings = choose_tasks(None, common, domains, data)
        if options.strengths_only:
            others = [task for task in others if _is_strength(task, domains)]
        tasks = [*own, *(task for task in others if task.name not in options.tasks)]
    domains = _with_undeclared(domains, own, tasks, run_options.workspace)
    treated = sorted({q.domain for task in own for q in task.questions})
    options = replace(options, only=options.only or tuple(treated))
    domains = companions(domains, {q.domain for task in tasks for q in task.questions})
    split = split_tasks(tasks, run_options.data, domains)
    _check_split(f"suite `{suite}`" if suite else "the file", split)
    asked = {q.domain for task in split.selection for q in task.questions}
    check_only(options.only, asked & domains.keys())
    return ImproveContext(
        settings,
        split,
        domains,
        run_options,
        options,
        learnable(split, domains, run_options.data),
        {task.name: task.digest for task in tasks},
        limit,
    )


def _is_strength(task: Task, domains: Mapping[str, Domain]) -> bool:
    """Whether a task's questions are of domains that are declared as strengths."""
    return all(
        question.domain in domains and domains[question.domain].protected
        for question in task.questions
    )


def _with_undeclared(
    domains: Mapping[str, Domain], own: Sequence[Task], tasks: Sequence[Task], workspace: Path
) -> dict[str, Domain]:
    """The domains, with one for each that only files of questions name.

    It goes with the domains of the suite, so that it is told from them and they are watched.
    """
    names: dict[str, list[str]] = {}
    for task in own:
        for domain in sorted({q.domain for q in task.questions} - domains.keys()):
            names.setdefault(domain, []).append(task.name)
    asked = {q.domain for task in tasks for q in task.questions} & domains.keys()
    suite = next((domains[name].suite for name in sorted(asked)), "")
    made = {name: bare_domain(name, workspace, files, suite) for name, files in names.items()}
    return {**domains, **made}


def check_only(only: Sequence[str], known: Collection[str]) -> None:
    """Refuse domains that are not declared, or to which no question belongs."""
    for name in only:
        if name not in known:
            raise NoSuch("domain", name, known, "bench domains")


def _check_split(what: str, split: EvalSplit) -> None:
    for part, tasks in ((SELECTION, split.selection), (HELD_OUT, split.held_out)):
        if not tasks:
            raise Misuse(
                f"{what} has too few questions: none is left for the part {part}",
                "add questions, or take another suite",
            )
