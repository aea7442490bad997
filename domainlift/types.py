"""Types that every package uses: questions, passages, treatments."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import Literal

Split = Literal["train", "validation", "test"]


@dataclass(frozen=True)
class Question:
    """One question of a task.

    `answer` is the index of the right option, or, where there are no options, the reference
    answer, beside which `others` are right too. `tools` are descriptions of functions that a chat
    may call, `messages` a chat that `text` is only a part of, both as JSON. `cluster` is shared by
    questions that are not independent (those on one passage). `support` names the passage of the
    domain's documents that holds the answer, where known.
    """

    id: str
    domain: str
    task: str
    text: str
    options: tuple[str, ...]
    answer: int | str
    cluster: str = ""
    split: Split = "test"
    support: str = ""
    others: tuple[str, ...] = ()
    tools: str = ""
    messages: str = ""

    @property
    def references(self) -> tuple[str, ...]:
        """All right answers, where they are open."""
        return (str(self.answer), *self.others)

    @property
    def answer_text(self) -> str:
        """The right option, or the reference answer."""
        return self.answer if isinstance(self.answer, str) else self.options[self.answer]

    @property
    def chance(self) -> float:
        """The accuracy of guessing: 1 / number of options, and 0 for an open answer."""
        return 1 / len(self.options) if self.options else 0.0


def question_id(task: str, text: str, options: tuple[str, ...], occurrence: int = 0) -> str:
    """Id of a question: 16 hexadecimal digits of its content.

    `occurrence` tells apart the copies of a question that a data set holds more than once.
    """
    content = json.dumps([task, text, options, occurrence], ensure_ascii=False)
    return hashlib.sha256(content.encode()).hexdigest()[:16]


@dataclass(frozen=True)
class Passage:
    """A piece of a document that may be put before a question.

    `source` is shown with it and says what it is about; `place` is where it stands, down to the
    document. `score` decided its rank among those that were found, `dense` is the cosine between
    question and passage, `bm25` the lexical score; None where a method did not find it.
    """

    text: str
    source: str = ""
    id: str = ""
    place: str = ""
    score: float | None = None
    dense: float | None = None
    bm25: float | None = None


@dataclass(frozen=True)
class Treatment:
    """Passages and adapter of one question, and the reason for them.

    `passages` stand before the question, the best first. `retrieved` are all that a search
    returned, also where none is used; `searched` says whether there was one. `leak` is the chunk
    of the knowledge base that contains the question, "" where there is none. `route` is the domain
    that a router chose, "" for the base model, `decided_by` the stage that decided it, and
    `matched` the terms that spoke for it. Without `examples` those of the form are left out: an
    adapter that was trained without them is asked without them.
    """

    passages: tuple[Passage, ...] = ()
    adapter: str | None = None
    reason: str = "base"
    retrieved: tuple[Passage, ...] = ()
    searched: bool = False
    leak: str = ""
    route: str = ""
    decided_by: str = ""
    matched: tuple[str, ...] = ()
    examples: bool = True
