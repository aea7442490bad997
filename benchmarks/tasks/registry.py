"""Registry of tasks: benchmarks and other loaders by the prefix of a task's name.

A benchmark is added by one line in `BENCHMARKS` (docs/domains.md says how).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol

from benchmarks.tasks.base import GENERAL, NoSplit, NotAtHand, Task, TaskRequest
from benchmarks.tasks.hub_or_mirror import mirror_path
from domainlift.errors import Misuse, NoSuch
from domainlift.registry import load_object
from domainlift.types import Split
from knowledge_bases.domains import Domain

# Prefix of the tasks' names -> the benchmark, which offers tasks of its own.
BENCHMARKS = {
    "mmlu": "benchmarks.tasks.mmlu:MMLU",
    "gsm8k": "benchmarks.tasks.gsm8k:GSM8K",
    "arc": "benchmarks.tasks.arc:ARC",
    "mmlu_pro": "benchmarks.tasks.mmlu_pro:MMLU_PRO",
    "countdown": "benchmarks.tasks.countdown:COUNTDOWN",
}
# Endings of files of questions.
FILES = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
# Prefix of a task's name, or ending of a file's -> the function that loads what the rest names.
LOADERS = {
    "own": "benchmarks.tasks.question_file:load_question_file",
    "lm-eval": "benchmarks.tasks.lm_eval_task:load_lm_eval_task",
    "perplexity": "benchmarks.tasks.perplexity:load_texts",
    **dict.fromkeys(FILES, "benchmarks.tasks.question_file:load_question_file"),
}


#: Prefix of a file of texts, whose perplexity is measured.
TEXT = "perplexity:"


class Benchmark(Protocol):
    """Published data set: the tasks that it offers, and their loader."""

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks' names."""
        ...

    @property
    def domains(self) -> Mapping[str, str]:
        """The domain of a task that no domain lists, by the task's name without the prefix."""
        ...

    def load(self, request: TaskRequest) -> Task:
        """Load one split of one task."""
        ...


def load_task(
    name: str, *, data: Path | None, domains: Mapping[str, Domain], split: Split = "test"
) -> Task:
    """Load the questions of the task `name`, from the mirror `data` or from the hub."""
    if data is not None and not data.is_dir():
        raise Misuse(f"no data folder `{data}`", "give --data or BENCH_DATA an existing folder")
    prefix, _, rest = name.partition(":")
    kind = file_kind(name) or prefix
    if kind not in {"lm-eval", "perplexity", *FILES} and name not in task_names(domains):
        raise NoSuch("task", name, task_names(domains), see="bench domains")
    owner = _owner(name, domains)
    if kind in BENCHMARKS:
        benchmark = _benchmark(kind)
        home = benchmark.domains.get(rest, GENERAL)
        domain = owner.name if owner else home if home in domains else GENERAL
        return benchmark.load(TaskRequest(name, rest, domain, split, data))
    own_domains = kind == "perplexity" or kind.startswith(".")
    domain = owner.name if owner else "" if own_domains else GENERAL
    file = _file(name, kind, domains, owner)
    load: Callable[[TaskRequest], Task] = load_object(LOADERS[kind])
    return load(TaskRequest(name, rest, domain, split, data, file))


def load_optional(
    name: str,
    *,
    data: Path | None,
    domains: Mapping[str, Domain],
    split: Split = "validation",
) -> Task | None:
    """Load a split that a task may lack; None where it has none, or none is at hand."""
    try:
        return load_task(name, data=data, domains=domains, split=split)
    except (NoSplit, NotAtHand):
        return None


def task_names(domains: Mapping[str, Domain]) -> tuple[str, ...]:
    """Name every task that can be loaded without naming a file or another harness."""
    own = (f"own:{name}" for name, domain in domains.items() if domain.questions_file)
    return (*(name for prefix in BENCHMARKS for name in _benchmark(prefix).tasks), *own)


def is_own(name: str) -> bool:
    """Whether a task needs no data from elsewhere: a domain's own, a file, or drawn from a seed."""
    return name.startswith(("own:", "countdown:")) or bool(file_kind(name))


def file_kind(name: str) -> str:
    """Return the ending where `name` is the path of a file of questions, else ""."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix in LOADERS and not name.startswith(("lm-eval:", TEXT)) else ""


def _owner(name: str, domains: Mapping[str, Domain]) -> Domain | None:
    """Find the domain that lists the task; a domain always owns its own questions."""
    own = domains.get(name.removeprefix("own:")) if name.startswith("own:") else None
    listing = (domain for domain in domains.values() if name in domain.tasks)
    return own if own is not None else next(listing, None)


def _file(name: str, kind: str, domains: Mapping[str, Domain], owner: Domain | None) -> Path | None:
    """Return the file of a task's questions, where it has one of its own."""
    if kind == "own":
        return domains[name.removeprefix("own:")].questions_file
    if not kind.startswith("."):
        return None
    if owner is None or not owner.folder.is_dir():  # a domain that is declared nowhere
        return Path(name)
    # A domain lists its files by their place in its own folder.
    return mirror_path(owner.folder, name)


def _benchmark(prefix: str) -> Benchmark:
    benchmark: Benchmark = load_object(BENCHMARKS[prefix])
    return benchmark
