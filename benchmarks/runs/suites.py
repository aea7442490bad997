"""Suites: tasks that are run together, by name or from a YAML file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from benchmarks.runs.runner import EvalSettings
from benchmarks.scoring.metric_registry import metric_names
from benchmarks.scoring.scorer import metric_scorer
from benchmarks.tasks.base import Task
from benchmarks.tasks.registry import TEXT, file_kind, load_task, task_names
from domainlift.errors import Malformed, Misuse, NoSuch
from domainlift.yaml_schema import Field, Node, read_yaml
from engines.base import Mode
from knowledge_bases.domains import Domain


@dataclass(frozen=True)
class Suite:
    """Tasks that are run together; `shots` and `mode` win over the tasks' own where given.

    Replies to their open questions are graded by `metrics`.
    """

    name: str
    tasks: tuple[str, ...]
    shots: int | None = None
    mode: Mode | None = None
    metrics: tuple[str, ...] = ()


def load_suite(name_or_path: str, domains: Mapping[str, Domain]) -> Suite:
    """Return the suite of this name, or the one in this YAML file."""
    path = Path(name_or_path)
    if path.suffix.lower() in (".yaml", ".yml"):
        return _from_file(path, domains)
    if name_or_path not in SUITES:
        raise NoSuch("suite", name_or_path, SUITES)
    return Suite(name_or_path, tuple(SUITES[name_or_path](domains)))


def _built_in(suite: str, domains: Mapping[str, Domain]) -> list[str]:
    """The built-in questions of the domains that belong to this suite alone, or ("") to none."""
    ours = {name: d for name, d in domains.items() if d.is_built_in and d.suite == suite}
    return _tasks_of(("own",), ours)


def _tasks_of(prefixes: Sequence[str], domains: Mapping[str, Domain]) -> list[str]:
    return [name for name in task_names(domains) if name.partition(":")[0] in prefixes]


def _full(domains: Mapping[str, Domain]) -> list[str]:
    free = {name: domain for name, domain in domains.items() if not domain.suite}
    return _tasks_of(("mmlu", "gsm8k", "arc", "own"), free)


# Name -> its tasks. Stored figures of a suite hold only as long as its tasks stay the same.
SUITES: dict[str, Callable[[Mapping[str, Domain]], list[str]]] = {
    "demo": partial(_built_in, ""),
    "handbook": partial(_built_in, "handbook"),
    "mmlu": partial(_tasks_of, ("mmlu",)),
    "full": _full,
}


# --- a suite from a file

_SCHEMA = {
    "name": Field("text"),
    "tasks": Field("texts", required=True),
    "shots": Field("whole", least=0),
    "mode": Field("text", choices=tuple(Mode)),
    "scorer": Field("text"),
}


def _from_file(path: Path, domains: Mapping[str, Domain]) -> Suite:
    entries = read_yaml(path, _SCHEMA)
    tasks = entries["tasks"]
    if not tasks.texts:
        hint = "write `tasks: [mmlu:anatomy, gsm8k]`"
        raise Malformed(path, "`tasks` is empty", line=tasks.line, hint=hint)
    return Suite(
        name=entries["name"].text if "name" in entries else path.stem,
        tasks=tuple(
            _task(path, line, name, domains)
            for name, line in zip(tasks.texts, tasks.lines, strict=True)
        ),
        shots=int(entries["shots"].number) if "shots" in entries else None,
        mode=Mode(entries["mode"].text) if "mode" in entries else None,
        metrics=_metrics(path, entries["scorer"]) if "scorer" in entries else (),
    )


def _metrics(path: Path, node: Node) -> tuple[str, ...]:
    try:
        return metric_names(node.text)
    except NoSuch as error:
        raise Malformed(path, error.what, line=node.line, hint=error.hint) from None


def _task(path: Path, line: int, name: str, domains: Mapping[str, Domain]) -> str:
    """Return the task's name; a file's place is taken from the suite's folder."""
    text = name.startswith(TEXT)
    if text or file_kind(name):
        file = path.parent / name.removeprefix(TEXT)
        if not file.is_file():
            raise Malformed(path, f"no file `{file}`", line=line)
        return f"{TEXT}{file}" if text else str(file)
    known = task_names(domains)
    if name not in known and not name.startswith("lm-eval:"):
        error = NoSuch("task", name, known, see="bench domains")
        raise Malformed(path, error.what, line=line, hint=error.hint)
    return name


def choose_tasks(
    names: Sequence[str] | None,
    settings: EvalSettings,
    domains: Mapping[str, Domain],
    data: Path | None,
) -> tuple[list[Task], EvalSettings]:
    """Load the tasks, and complete the settings with those of the suite.

    Tasks of other domains than the chosen ones are not loaded; those that belong to no domain by
    name are, because only their questions tell.
    """
    if not names:
        suite = load_suite(settings.suite, domains)
        names = suite.tasks
        settings = replace(
            settings,
            suite=suite.name,
            shots=settings.shots if settings.shots is not None else suite.shots,
            mode=settings.mode if settings.mode is not None else suite.mode,
            metrics=settings.metrics or suite.metrics,
        )
    owners = {task: domain.name for domain in domains.values() for task in domain.tasks}
    wanted = [
        name
        for name in names
        if not settings.domains or owners.get(name, settings.domains[0]) in settings.domains
    ]
    tasks = [load_task(name, data=data, domains=domains) for name in wanted]
    return (_graded(tasks, settings.metrics) if settings.metrics else tasks), settings


def _graded(tasks: Sequence[Task], metrics: tuple[str, ...]) -> list[Task]:
    """The tasks, those of open questions with the scorer of these metrics."""
    scorer = metric_scorer(metrics)
    is_open = [task.modes == {Mode.GENERATE} and not task.prerendered for task in tasks]
    if not any(is_open):
        raise Misuse(
            f"`{', '.join(metrics)}` grades replies, and no task has open questions",
            "name a file whose questions have no options: `--task FILE.jsonl`",
        )
    return [
        replace(task, scorer=scorer) if graded else task
        for task, graded in zip(tasks, is_open, strict=True)
    ]
