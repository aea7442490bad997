"""Questions on which a gate is calibrated where a domain has no validation questions.

In their place stand questions of the train split, then questions made of the documents: sentences
with a blank, as the training data has them. A made question lies nearer to its own sentence than a
user's question would, so its cosine says nothing; there, and where nothing can be asked, the
threshold comes from retrieval alone: foreign questions, of other domains, hardly reach it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import islice

from benchmarks.runs.runner import EvalJob, prepare_job
from benchmarks.tasks.base import (
    ALL_MODES,
    MAX_TOKENS,
    STOP,
    Task,
    with_ids,
    zero_shot_task,
)
from benchmarks.tasks.registry import load_optional
from domainlift.sampling import seeded_random
from domainlift.types import Question
from engines.base import EngineInfo, Mode
from finetune.data.sources.cloze import cloze, spread_of
from knowledge_bases.domains import Domain
from rag.base import Chunk
from rag.search.retrieval import Retriever
from rag.treatment import as_passage, best_cosine

#: Questions made of a knowledge base at most, and foreign questions of each built-in domain.
MADE, FOREIGN = 100, 60
#: The share of foreign questions that stays below the threshold.
FOREIGN_SHARE = 0.95
_OPTIONS, _DRAWS = 4, 8


def document_job(
    job: EvalJob, info: EngineInfo, retrievers: Mapping[str, Retriever]
) -> EvalJob | None:
    """A job of questions made of each domain's documents; None where none can be made.

    They are asked without examples, in the mode in which the domain's questions are asked.
    """
    tasks = [
        task for name, retriever in retrievers.items() if (task := _made(job, name, retriever))
    ]
    if not tasks:
        return None
    suite = f"{job.settings.suite}-documents"
    return prepare_job(
        tasks, replace(job.settings, suite=suite, limit=None, domains=(), shots=0), info
    )


def document_questions(domain: str, chunks: Sequence[Chunk], *, closed: bool) -> list[Question]:
    """At most `MADE` sentences of chunks with a blank; `closed` ones with four words to choose of.

    The wrong ones are words that were asked for elsewhere. Fewer than four words make none.
    """
    draw = seeded_random(domain, 0)
    rows = draw.sample(range(len(chunks)), min(MADE, len(chunks)))
    sampled = [chunks[row] for row in sorted(rows)]
    spread = spread_of(chunk.text for chunk in sampled)
    # Each draw has three sentences of a chunk at most: small knowledge bases need several.
    found = (
        pair
        for seed in range(_DRAWS)
        for chunk in sampled
        for pair in cloze(chunk.text, chunk.heading, spread, seeded_random(chunk.id, seed))
    )
    pairs = list(islice(dict.fromkeys(found), MADE))
    terms = sorted({term.lower() for _, term in pairs})
    if closed and len(terms) < _OPTIONS:
        return []
    drafts = []
    for blanked, term in pairs:
        wrong = [each for each in terms if each not in (term.lower(), *blanked.lower().split())]
        if closed and len(wrong) < _OPTIONS - 1:
            continue
        options = [term.lower(), *draw.sample(wrong, _OPTIONS - 1)] if closed else []
        draw.shuffle(options)
        answer = options.index(term.lower()) if closed else term
        text = f"Which word is missing? {blanked}"
        name = _task_name(domain)
        drafts.append(Question("", domain, name, text, tuple(options), answer))
    return list(with_ids(_task_name(domain), drafts))


def foreign_threshold(domain: str, retriever: Retriever, domains: Mapping[str, Domain]) -> float:
    """The cosine with their best passage that `FOREIGN_SHARE` of foreign questions stay below.

    Foreign are the built-in questions of the other domains.
    """
    texts = list(_foreign(domain, domains))
    cosines = sorted(
        cosine
        for hits in retriever.search(texts, 1)
        if (cosine := best_cosine([as_passage(hit) for hit in hits])) is not None
    )
    return cosines[int(FOREIGN_SHARE * len(cosines))] if cosines else 0.0


def _foreign(domain: str, domains: Mapping[str, Domain]) -> Iterator[str]:
    for name, other in domains.items():
        if name == domain or not other.questions_file:
            continue
        task = load_optional(f"own:{name}", data=None, domains=domains, split="train")
        if task is not None:
            yield from (question.text for question in task.questions[:FOREIGN])


def _made(job: EvalJob, domain: str, retriever: Retriever) -> Task | None:
    asked = next((q for q in job.questions if q.domain == domain), None)
    if asked is None:
        return None
    closed = bool(asked.options)
    questions = tuple(document_questions(domain, retriever.index.chunks, closed=closed))
    if not questions:
        return None
    return zero_shot_task(
        _task_name(domain),
        domain,
        questions,
        job.formats[asked.task].mode,
        ALL_MODES if closed else frozenset({Mode.GENERATE}),
        stop=() if closed else STOP,
        max_tokens=MAX_TOKENS,
    )


def _task_name(domain: str) -> str:
    return f"documents:{domain}"
