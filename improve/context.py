"""What `bench improve` works on: divided tasks, and what the user wishes."""

from __future__ import annotations

import sys
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from domainlift.errors import Misuse, NoSuch
from improve.score import RunOptions

if TYPE_CHECKING:
    from benchmarks.held_out.gate import GateCriteria
    from benchmarks.held_out.split import EvalSplit
    from benchmarks.runs.runner import EvalSettings
    from ensemble.fit.training_data import Labelled
    from knowledge_bases.domains import Domain

SELECTION, HELD_OUT = "selection", "held out"


@dataclass(frozen=True)
class ImproveOptions:
    """What the user said. `only` are the domains to treat, () for all that are weak."""

    terms: GateCriteria
    only: tuple[str, ...] = ()
    skip_rag: bool = False
    skip_train: bool = False
    minutes: float | None = None
    own: bool = False
    change: tuple[str, ...] = ()


@dataclass(frozen=True)
class ImproveContext:
    """What the loop works on; a router is learned from the `labelled` questions.

    `tested` has a digest of each task's data, by which looks at its questions are counted.
    """

    settings: EvalSettings
    split: EvalSplit
    domains: dict[str, Domain]
    place: RunOptions
    options: ImproveOptions
    labelled: Sequence[Labelled]
    tested: Mapping[str, str]
    limit: int | None = None

    def limit_of(self, part: str) -> int | None:
        """How many questions of a part are asked at most: a third is for choosing."""
        if self.limit is None:
            return None
        selection = max(1, self.limit // 3)
        return selection if part == SELECTION else self.limit - selection


def prepare_context(
    suite: str, limit: int | None, place: RunOptions, wishes: ImproveOptions
) -> ImproveContext:
    """Load and divide the tasks; Misuse where the loop could not come to an end with them."""
    from bench.commands.run import command_line
    from benchmarks.held_out.split import split_tasks
    from benchmarks.runs.runner import EvalSettings
    from benchmarks.runs.select_tasks import choose_tasks
    from improve.route import learnable
    from knowledge_bases.domains import load_domains

    domains = load_domains(place.workspace)
    if wishes.own:
        domains = {name: replace(found, sources=()) for name, found in domains.items()}
    settings = EvalSettings(suite=suite, command=command_line(sys.argv[1:]))
    tasks, settings = choose_tasks(None, settings, domains, place.data)
    portions = split_tasks(tasks, place.data, domains)
    _check_divided(suite, portions)
    asked = {q.domain for task in portions.selection for q in task.questions}
    check_only(wishes.only, asked & domains.keys())
    return ImproveContext(
        settings,
        portions,
        domains,
        place,
        wishes,
        learnable(portions.held_out, domains, place.data),
        {task.name: task.digest for task in tasks},
        limit,
    )


def check_only(only: Sequence[str], known: Collection[str]) -> None:
    """Refuse domains that are not declared, or to which no question belongs."""
    for name in only:
        if name not in known:
            raise NoSuch("domain", name, known, "bench domains")


def _check_divided(suite: str, portions: EvalSplit) -> None:
    for part, tasks in ((SELECTION, portions.selection), (HELD_OUT, portions.held_out)):
        if not tasks:
            what = f"suite `{suite}` has too few questions: none is left for the part {part}"
            raise Misuse(what, "add questions, or take another suite")
