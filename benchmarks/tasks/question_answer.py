"""Published benchmarks of open questions with worked answers, and the loader of their tasks."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from benchmarks.scoring.scorer import BY_REFERENCE, Scorer
from benchmarks.tasks.base import (
    MAX_TOKENS,
    STOP,
    Example,
    NoSplit,
    Task,
    TaskRequest,
    data_digest,
    with_ids,
)
from benchmarks.tasks.hub_or_mirror import PublishedSplit, published_rows
from domainlift.types import Question, Split
from engines.base import Mode

# The text of a question, its worked answer, and the reference that a reply is compared with.
OpenItem = tuple[str, str, str]


@dataclass(frozen=True)
class QuestionAnswer:
    """A benchmark of open questions as its authors publish it: one task of the same name.

    `splits` maps each of our splits to the hub's and to the mirror's file. The first `pool` rows of
    the train split, with their worked answers, are the examples of the test split. `reader` raises
    ValueError for a row of another form.
    """

    name: str
    hub: str
    config: str | None
    splits: Mapping[Split, tuple[str, str]]
    reader: Callable[[Mapping[str, Any]], OpenItem]
    scorer: Scorer = BY_REFERENCE
    shots: int = 0
    pool: int = 8
    stop: tuple[str, ...] = STOP
    max_tokens: int = MAX_TOKENS
    domains: Mapping[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The name of its task."""
        return (self.name,)

    def load(self, request: TaskRequest) -> Task:
        """Load one split; NoSplit where the data set has no such split."""
        if request.split not in self.splits:
            known = " or ".join(self.splits)
            raise NoSplit(f"`{self.name}` has no {request.split} split", f"use the split {known}")
        questions = tuple(example.question for example in self._items(request, request.split))
        pool = self._items(request, "train")[: self.pool] if request.split == "test" else ()
        return Task(
            name=request.name,
            domain=request.domain,
            questions=questions,
            examples=pool,
            description="",
            mode=Mode.GENERATE,
            modes=frozenset({Mode.GENERATE}),
            shots=self.shots if pool else 0,
            digest=data_digest(questions, pool),
            stop=self.stop,
            max_tokens=self.max_tokens,
            scorer=self.scorer,
        )

    def _items(self, request: TaskRequest, split: Split) -> tuple[Example, ...]:
        name, file = self.splits[split]
        source = PublishedSplit(self.hub, self.config, name, file)
        rows = published_rows(source, request.data, from_hub=self.reader, from_mirror=self.reader)
        items = list(rows)
        drafts = [
            Question("", request.domain, request.name, text.strip(), (), reference, split=split)
            for text, _, reference in items
        ]
        questions = with_ids(request.name, drafts)
        return tuple(Example(q, worked) for q, (_, worked, _) in zip(questions, items, strict=True))
