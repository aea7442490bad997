"""Registry of tasks: the prefix of a task's name and the loader of its questions."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

from benchmarks.tasks.base import GENERAL, NoSplit, Task, TaskRequest
from benchmarks.tasks.hub_or_mirror import mirror_path
from benchmarks.tasks.mmlu import SUBJECTS
from domainlift.errors import Misuse, NoSuch
from domainlift.types import Split

if TYPE_CHECKING:
    from knowledge_bases.domains import Domain

# The prefix of a task's name, or the ending of a file's, and who loads it.
LOADERS = {
    "mmlu": "benchmarks.tasks.mmlu:load_mmlu",
    "gsm8k": "benchmarks.tasks.gsm8k:load_gsm8k",
    "arc": "benchmarks.tasks.arc:load_arc",
    "own": "benchmarks.tasks.question_file:load_question_file",
    "lm-eval": "benchmarks.tasks.lm_eval_task:load_lm_eval_task",
    ".jsonl": "benchmarks.tasks.question_file:load_question_file",
    ".csv": "benchmarks.tasks.question_file:load_question_file",
}


def load_task(
    name: str, *, data: Path | None, domains: Mapping[str, Domain], split: Split = "test"
) -> Task:
    """Load the questions of the task `name`, from the mirror `data` or from the hub."""
    if data is not None and not data.is_dir():
        raise Misuse(f"no data folder `{data}`", "give --data or BENCH_DATA an existing folder")
    prefix, _, rest = name.partition(":")
    kind = file_kind(name) or prefix
    if kind not in LOADERS or (kind[0] != "." and kind != "lm-eval"):
        _must_exist(name, domains)
    owner = _owner(name, domains)
    want = TaskRequest(name, rest, owner.name if owner else _home(kind), split, data)
    return _loader(kind)(_with_file(want, kind, domains, owner))


def load_validation(name: str, *, data: Path | None, domains: Mapping[str, Domain]) -> Task | None:
    """Load the validation questions of a task; None where it has none."""
    try:
        return load_task(name, data=data, domains=domains, split="validation")
    except NoSplit:
        return None


def task_names(domains: Mapping[str, Domain]) -> tuple[str, ...]:
    """Name every task that can be loaded without naming a file or another harness."""
    own = (f"own:{name}" for name, domain in domains.items() if domain.questions_file)
    mmlu = (f"mmlu:{subject}" for subject in SUBJECTS)
    return (*mmlu, "gsm8k", "arc:easy", "arc:challenge", *own)


def file_kind(name: str) -> str:
    """Return ".jsonl" or ".csv" where `name` is the path of such a file, else ""."""
    suffix = Path(name).suffix.lower()
    return suffix if suffix in LOADERS and not name.startswith("lm-eval:") else ""


def _must_exist(name: str, domains: Mapping[str, Domain]) -> None:
    known = task_names(domains)
    if name not in known:
        raise NoSuch("task", name, known, see="bench domains")


def _owner(name: str, domains: Mapping[str, Domain]) -> Domain | None:
    """Find the domain that lists the task; a domain always owns its own questions."""
    own = domains.get(name.removeprefix("own:")) if name.startswith("own:") else None
    return own if own is not None else next(_listing(name, domains), None)


def _listing(name: str, domains: Mapping[str, Domain]) -> Iterator[Domain]:
    return (domain for domain in domains.values() if name in domain.tasks)


def _home(kind: str) -> str:
    return "" if kind.startswith(".") else GENERAL


def _with_file(
    want: TaskRequest, kind: str, domains: Mapping[str, Domain], owner: Domain | None
) -> TaskRequest:
    file = None
    if kind == "own":
        file = domains[want.rest].questions_file
    elif kind.startswith("."):
        # A domain lists its files by their place in its own folder.
        file = Path(want.name) if owner is None else mirror_path(owner.folder, want.name)
    return replace(want, file=file)


def _loader(kind: str) -> Callable[[TaskRequest], Task]:
    module, _, function = LOADERS[kind].partition(":")
    load: Callable[[TaskRequest], Task] = getattr(import_module(module), function)
    return load
