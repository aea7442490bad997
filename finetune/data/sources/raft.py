"""RAFT rows: questions with passages before them, of which at most one holds the answer.

A model that learned its answers without passages may stop reading them. So it also learns to
find an answer among passages that do not hold it, and to know it where no passage does (RAFT:
Zhang et al., "Adapting language model to domain specific RAG", 2024, where 20 % of the rows are
without the right passage).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.tasks.base import Task
from domainlift.sampling import seeded_random
from domainlift.text.normalise import contains_run, words_and_signs
from domainlift.types import Passage, Question
from finetune.data.rows import Row
from finetune.data.sources.questions import prompt_completion

#: The kind of these rows.
KIND = "question-context"
#: The share of rows from which the passage with the answer is left out.
WITHOUT = 0.2
# Of a shorter answer ("no", "B", "12") it is chance that a passage holds it.
_SHORTEST = 4


@dataclass(frozen=True)
class ContextSettings:
    """Number of distractor passages, and the share of rows without the right passage."""

    distractors: int = 2
    without: float = WITHOUT
    seed: int = 0


@dataclass(frozen=True)
class Contexts:
    """Rows with passages; of how many questions nothing that was found held the answer.

    `alone` counts the rows from which the passage with the answer was left out.
    """

    rows: tuple[Row, ...] = ()
    alone: int = 0
    skipped: int = 0

    def __add__(self, other: Contexts) -> Contexts:
        """Both together."""
        rows = (*self.rows, *other.rows)
        return Contexts(rows, self.alone + other.alone, self.skipped + other.skipped)


def context_rows(
    task: Task,
    retrieved: Iterable[tuple[Question, Sequence[Passage]]],
    settings: ContextSettings,
    *,
    licence: str = "",
    licences: Mapping[str, str] | None = None,
) -> Contexts:
    """Rows of a task's training questions with the passages retrieved for each, best first.

    A row has the source of the question's plain row, so that both fall into the same split. It is
    under the licence of the questions and under those of its passages, by their ids.
    """
    of = licences if licences is not None else {}
    rows: list[Row] = []
    alone = skipped = 0
    for question, passages in retrieved:
        if question.split != "train":
            continue
        gold = evidence(question, passages)
        shown = with_context(question, passages, gold, settings) if gold is not None else ()
        if gold is None or not shown:
            skipped += 1
            continue
        alone += all(each.id != gold.id for each in shown)
        prompt, completion = prompt_completion(question, task, shown)
        source = f"{question.task}#{question.id}"
        under = sorted({licence, *(of.get(each.id, "") for each in shown)} - {""})
        row = Row(prompt, completion, question.domain, KIND, source, " and ".join(under))
        rows.append(row)
    return Contexts(tuple(rows), alone, skipped)


def evidence(question: Question, passages: Sequence[Passage]) -> Passage | None:
    """The best passage that holds the answer word for word; None where there is none.

    Where the question names its support, it must stand there.
    """
    return next((each for each in passages if _is_evidence(question, each)), None)


def with_context(
    question: Question, passages: Sequence[Passage], gold: Passage, settings: ContextSettings
) -> tuple[Passage, ...]:
    """The passages that stand before a question, in an order that a seed makes.

    Where the right one is left out, another stands in its place, so that their number tells
    nothing. There may be fewer where little was retrieved.
    """
    draw = seeded_random(f"context:{question.id}", settings.seed)
    alone = draw.random() < settings.without
    others = [each for each in passages if each.id != gold.id and not _holds(question, each)]
    shown = others[: settings.distractors + 1] if alone else [gold, *others[: settings.distractors]]
    draw.shuffle(shown)
    return tuple(replace(each, score=None, dense=None, bm25=None) for each in shown)


def _is_evidence(question: Question, passage: Passage) -> bool:
    if question.support:
        return passage.place == question.support and _holds(question, passage)
    letters = "".join(words_and_signs(question.answer_text))
    return len(letters) >= _SHORTEST and _holds(question, passage)


def _holds(question: Question, passage: Passage) -> bool:
    """Whether the answer stands in a passage, word for word."""
    answer = words_and_signs(question.answer_text)
    return bool(answer) and contains_run(words_and_signs(passage.text), answer)
