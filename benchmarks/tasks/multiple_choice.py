"""Published multiple-choice benchmarks, described as data, and the loader of their tasks."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from operator import itemgetter
from string import ascii_uppercase
from typing import Any

from benchmarks.tasks.base import (
    ALL_MODES,
    Example,
    NoSplit,
    Task,
    TaskRequest,
    data_digest,
    with_ids,
)
from benchmarks.tasks.hub_or_mirror import PublishedSplit, mirror_file, published_rows
from domainlift.types import Question, Split
from engines.base import Mode

SHARED_PASSAGE = 200  # characters

# The text of a question, its options, and the index of the right one.
Choice = tuple[str, Sequence[str], int]
ChoiceReader = Callable[[Any], Choice]


def choice_columns(*, options: str, answer: str) -> ChoiceReader:
    """Make a reader of rows with `question`, a list of options and an index into it.

    The reader raises ValueError for a row of another form.
    """

    def read(row: Mapping[str, Any]) -> Choice:
        match row.get("question"), row.get(options), row.get(answer):
            case str(text), list(choices), int(index) if all(
                isinstance(choice, str) for choice in choices
            ) and 0 <= index < len(choices):
                return text, choices, index
        needed = f"`question`, `{options}` (a list of texts) and `{answer}` (an index into it)"
        raise ValueError(f"row is no question, which has {needed}")

    return read


@dataclass(frozen=True)
class MultipleChoice:
    """A multiple-choice benchmark as its authors publish it.

    name         prefix of the tasks' names: `name:subject`, or `name` for the subject ""
    hub          path of the data set on the hub
    subjects     subject -> the authors' name of it: a config of the hub, or a `category`
    splits       our split -> (the hub's split, the mirror's file; `{}` is the authors' subject)
    from_hub     reader of the hub's rows
    from_mirror  reader of the mirror's rows, where they have another form
    category     column with a row's subject, where one config holds all; the subject "" is all
    description  header of the prompts; `{}` is the subject in words
    mode, shots  default scoring mode and number of examples
    pool         number of rows of the train split that are examples (None: all); a mirror may
                 lack them if `shots` is 0
    passages     questions that share a long passage are one cluster
    domains      subject -> its domain, unless a domain lists the task
    """

    name: str
    hub: str
    subjects: Mapping[str, str]
    splits: Mapping[Split, tuple[str, str]]
    from_hub: ChoiceReader
    from_mirror: ChoiceReader | None = None
    category: str = ""
    description: str = ""
    mode: Mode = Mode.LETTER
    shots: int = 0
    pool: int | None = None
    passages: bool = False
    domains: Mapping[str, str] = field(default_factory=dict)

    @property
    def tasks(self) -> tuple[str, ...]:
        """The names of the tasks that the benchmark offers."""
        return tuple(f"{self.name}:{subject}".rstrip(":") for subject in self.subjects)

    def load(self, request: TaskRequest) -> Task:
        """Load the task of one subject; NoSplit where the data set has no such split."""
        if request.split not in self.splits:
            raise NoSplit(f"`{request.name}` has no {request.split} split", "use the split test")
        questions = self._questions(request, request.split)
        if self.passages:
            questions = cluster_by_passage(questions)
        examples = tuple(map(Example, self._examples(request)))
        return Task(
            name=request.name,
            domain=request.domain,
            questions=questions,
            examples=examples,
            description=self.header(request.rest),
            mode=self.mode,
            modes=ALL_MODES,
            shots=self.shots if examples else 0,
            digest=data_digest(questions, examples),
        )

    def header(self, subject: str) -> str:
        """Return the description that precedes a subject's prompts."""
        return self.description.format(subject.replace("_", " ") or "all subjects")

    def _examples(self, request: TaskRequest) -> tuple[Question, ...]:
        if request.split == "train" or self._lacks_examples(request):
            return ()
        return self._questions(request, "train")[: self.pool]

    def _lacks_examples(self, request: TaskRequest) -> bool:
        """Whether a mirror holds the questions without the examples, and none is shown."""
        files = [self._source(request.rest, split).file for split in (request.split, "train")]
        mirrored, pool = (mirror_file(request.data, file) is not None for file in files)
        return not self.shots and mirrored and not pool

    def _questions(self, request: TaskRequest, split: Split) -> tuple[Question, ...]:
        category = self.subjects[request.rest] if self.category else ""
        mirrored = self.from_hub if self.from_mirror is None else self.from_mirror
        rows = published_rows(
            self._source(request.rest, split),
            request.data,
            from_hub=partial(self._read, self.from_hub),
            from_mirror=partial(self._read, mirrored),
        )
        drafts = (
            Question(
                "", request.domain, request.name, text.strip(), tuple(options), right, split=split
            )
            for text, options, right in _in_turn(rows, category)
        )
        return with_ids(request.name, drafts)

    def _source(self, subject: str, split: Split) -> PublishedSplit:
        name, file = self.splits[split]
        published = self.subjects[subject]
        config = None if self.category else published
        return PublishedSplit(self.hub, config, name, file.format(published))

    def _read(self, reader: ChoiceReader, row: Any) -> tuple[str, Choice]:
        """Return the row's category ("" where rows have none) and its question."""
        text, options, right = reader(row)
        if not 2 <= len(options) <= len(ascii_uppercase):
            raise ValueError(f"row has {len(options)} options instead of 2 to 26")
        return row.get(self.category) if self.category else "", (text, options, right)


def cluster_by_passage(questions: Sequence[Question]) -> tuple[Question, ...]:
    """Mark the questions that share a long passage as one cluster."""
    passages = [question.text.rpartition("\n")[0].rstrip() for question in questions]
    count = Counter(passages)
    return tuple(
        replace(question, cluster=hashlib.sha256(passage.encode()).hexdigest()[:12])
        if len(passage) >= SHARED_PASSAGE and count[passage] > 1
        else question
        for question, passage in zip(questions, passages, strict=True)
    )


def _in_turn(rows: Iterable[tuple[str, Choice]], category: str) -> list[Choice]:
    """Return the questions of one category; of all categories ("") one of each in turn."""
    seen: Counter[str] = Counter()
    placed: list[tuple[int, Choice]] = []
    for own, choice in rows:
        if category in ("", own):
            placed.append((seen[own], choice))
            seen[own] += 1
    return [choice for _, choice in sorted(placed, key=itemgetter(0))]
