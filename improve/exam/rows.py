"""Training rows of an exam in the form in which it is served: bare questions, in a chat.

An adapter that learned its answers without passages stops reading them. So each fact is also a row
behind passages, of which one holds the answer (see `finetune.data.sources.raft`).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from benchmarks.prompts import passage_block, question_block
from domainlift.types import Passage, Question
from engines.base import Message
from finetune.data.rows import Row
from finetune.data.sources.raft import KIND, ContextSettings, evidence, with_context
from improve.exam.exam import TRAIN, Exam, ExamQuestion
from rag.base import Hit
from rag.treatment import as_passage, query

#: Finds at most so many hits for each query, the best first.
Search = Callable[[Sequence[str], int], Sequence[Sequence[Hit]]]
#: Passages of a row, and how many are searched for: some near ones hold the answer too.
_CONTEXTS, _SEARCHED = ContextSettings(distractors=1, without=0.0), 8


def exam_rows(exam: Exam, search: Search, *, chat: bool) -> list[Row]:
    """The training wordings of an exam, and one wording of each fact behind passages.

    In a `chat` the question is the user's turn; else it has the open layout. `search` looks in the
    exam's knowledge base.
    """
    asked = [each for each in exam.asked if each.split == TRAIN]
    firsts = list({each.fact: each for each in reversed(asked)}.values())[::-1]
    questions = [_question(each, exam.name) for each in firsts]
    rows = [_row(each, exam.name, (), chat=chat) for each in asked]
    found = search([query(each) for each in questions], _SEARCHED)
    for each, question, hits in zip(firsts, questions, found, strict=True):
        passages = [as_passage(hit) for hit in hits]
        gold = evidence(question, passages)
        if gold is not None:
            shown = with_context(question, passages, gold, _CONTEXTS)
            rows.append(_row(each, exam.name, shown, chat=chat))
    return rows


def as_chat(row: Row) -> Row:
    """A row in the open layout as a turn of a chat; a chat stays as it is."""
    if row.messages:
        return row
    question = row.prompt.removeprefix("Question: ").removesuffix("\nAnswer:")
    turn = Message("user", question)
    return replace(row, prompt="", completion=row.completion.strip(), messages=(turn,))


def _row(each: ExamQuestion, domain: str, passages: Sequence[Passage], *, chat: bool) -> Row:
    text = passage_block(passages) + (each.question if chat else question_block(each.question))
    return Row(
        "" if chat else text,
        each.right if chat else f" {each.right}",
        domain,
        KIND if passages else "question",
        each.id,
        messages=(Message("user", text),) if chat else (),
    )


def _question(each: ExamQuestion, domain: str) -> Question:
    return Question(
        each.id, domain, domain, each.question, each.options, each.answer, support=each.support
    )
