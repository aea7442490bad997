"""Questions that a model writes about passages, each kept only with evidence.

What is kept has no fault in its words and is shown by log-probabilities to come from its passage
(`finetune/synthetic`); its answer stands in one sentence of the passage; and when the writer is
asked the question with the passage before it, it gives that answer (a round trip, as Alberti et
al., 2019, arXiv 1906.05416, filter theirs).
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

from benchmarks.prompts import passage_block
from benchmarks.scoring.replies.thoughts import separate_thought
from domainlift.sampling import hash_order
from domainlift.text.normalise import contains, words
from domainlift.types import Passage
from engines.base import Answer, Engine, Message, Mode, Prompt, Request, Status
from finetune.data.cleaning import open_layout
from finetune.data.sources.sentences import sentences
from finetune.synthetic.generate import Progress, SynthesisJob, synthesize
from finetune.synthetic.prompts import Excerpt, GeneratedText
from improve.exam.fact_finder import Fact, kind_of_answer
from rag.base import Chunk

#: Passages that a model writes about at most.
MOST_PASSAGES = 120
_KIND = "questions"
_REPLY_TOKENS = 24
_ANSWER = re.compile(r"^(?:the answer is|answer:|it is|it's)\s+", re.IGNORECASE)


@dataclass(frozen=True)
class WrittenFacts:
    """Questions by their facts, the digest of the `writer`, and how many it wrote in all."""

    writer: str
    questions: Mapping[Fact, str]
    asked: int
    rejected: Mapping[str, int]


def write_questions(
    name: str, chunks: Sequence[Chunk], engine: Engine, folder: Path, progress: Progress
) -> WrittenFacts:
    """Have a model write about at most `MOST_PASSAGES`; what `folder` holds is not asked again."""
    chosen = sorted(chunks, key=lambda chunk: hash_order(chunk.id, name))[:MOST_PASSAGES]
    by_id = {chunk.id: chunk for chunk in chosen}
    excerpts = [Excerpt(_passage(chunk), chunk.licence) for chunk in chosen]
    job = SynthesisJob(name, excerpts, kinds=(_KIND,))
    book = synthesize(job, engine, folder, progress)
    told = book.yields[_KIND]
    rejected = Counter(told.rejected)
    drafts = list(_drafts(book.kept, by_id, rejected))
    kept = {}
    for (fact, question), reply in zip(drafts, _round_trip(drafts, engine, progress), strict=True):
        if agrees(reply, fact.answer):
            kept[fact] = question
        else:
            rejected["the writer itself answers otherwise"] += 1
    return WrittenFacts(engine.info.digest, kept, told.pieces, dict(rejected))


def agrees(reply: str, answer: str) -> bool:
    """Whether a reply gives this answer and little else; articles and case do not count."""
    told = _without_articles(_ANSWER.sub("", reply.strip().split("\n")[0]))
    wanted = _without_articles(answer)
    return (
        bool(wanted)
        and contains(" ".join(told), " ".join(wanted))
        and (len(told) <= 2 * len(wanted) + 6)
    )


def _without_articles(text: str) -> list[str]:
    return [word for word in words(text) if word not in ("a", "an", "the")]


def _passage(chunk: Chunk) -> Passage:
    return Passage(chunk.text, chunk.heading, chunk.id, chunk.source)


def _drafts(
    kept: Mapping[str, Sequence[GeneratedText]], chunks: Mapping[str, Chunk], rejected: Counter[str]
) -> Iterator[tuple[Fact, str]]:
    """Each question with the fact that it asks for; one answer of a sentence counts once."""
    seen: set[str] = set()
    for passage, texts in kept.items():
        for text in texts:
            question, answer = text.question, text.text.strip().rstrip(".")
            fact = _located(question, answer, chunks[passage])
            if fact is None:
                rejected["its answer stands in no sentence of the passage"] += 1
            elif fact.id in seen:
                rejected["told already"] += 1
            else:
                seen.add(fact.id)
                yield fact, question


def _located(question: str, answer: str, chunk: Chunk) -> Fact | None:
    """The sentence that holds the answer and most of the question's words; None without one."""
    asked = set(words(question))
    holding = [
        (sentence, match)
        for sentence in sentences(chunk.text)
        if (match := re.search(rf"(?<!\w){re.escape(answer)}(?!\w)", sentence, re.IGNORECASE))
    ]
    if not answer or not holding:
        return None
    sentence, match = max(holding, key=lambda pair: len(asked & set(words(pair[0]))))
    return Fact(sentence, match[0], match.start(), kind_of_answer(match[0]), chunk)


def _round_trip(
    drafts: Sequence[tuple[Fact, str]], engine: Engine, progress: Progress
) -> list[str]:
    """What the writer answers with the passage before it, in the order of the questions."""
    requests = [
        Request(
            str(n),
            Mode.GENERATE,
            _prompt(fact, question, engine),
            stop=("\n",),
            max_tokens=_REPLY_TOKENS,
        )
        for n, (fact, question) in enumerate(drafts)
    ]
    replies = [""] * len(requests)
    if not requests:
        return replies
    with closing(engine.answer(requests)) as answers:
        for done, answer in enumerate(map(separate_thought, answers), 1):
            replies[int(answer.id)] = _text(answer)
            progress("asking the writer", done, len(requests))
    return replies


def _text(answer: Answer) -> str:
    return answer.text or "" if answer.status is Status.OK else ""


def _prompt(fact: Fact, question: str, engine: Engine) -> Prompt:
    asked, _ = open_layout(question, "")
    text = f"{passage_block([_passage(fact.chunk)])}{asked}"
    if not engine.info.has_chat_template:
        return Prompt(text)
    return Prompt(messages=(Message("user", f"{text}\nReply with a few words of the passage."),))
