"""Treatment with passages: one search for all questions, and the gate for each."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from domainlift.types import Passage, Question, Treatment
from rag.base import Hit
from rag.retrieval_gate import OPEN, Gate
from rag.search.retrieval import Retriever

#: How much stands before a question at most, where nobody says otherwise.
PASSAGES, TOKENS = 3, 1024


@dataclass(frozen=True)
class Budget:
    """At most `k` passages, and at most `tokens` of the answering model, counted by `count`."""

    count: Callable[[str], int]
    k: int = PASSAGES
    tokens: int = TOKENS


@dataclass(frozen=True)
class QuestionSignals:
    """Inputs of the gate, by question.

    `confidence` is the base model's, by question; `leaks` names the chunk in which a question
    stands. With `options`, the options of a question are searched for too.
    """

    confidence: Mapping[str, float]
    leaks: Mapping[str, str]
    options: bool = False


def treat_with_passages(
    questions: Sequence[Question],
    retrievers: Mapping[str, Retriever],
    gates: Mapping[str, Gate],
    budget: Budget,
    signals: QuestionSignals,
) -> list[Treatment]:
    """Treatments in the order of the questions; domains without a knowledge base get none."""
    by_domain: dict[str, list[int]] = defaultdict(list)
    for place, question in enumerate(questions):
        if question.domain in retrievers:
            by_domain[question.domain].append(place)
    treatments = [Treatment(reason="base: no knowledge base")] * len(questions)
    for domain, places in by_domain.items():
        own = [questions[place] for place in places]
        queries = [query(question, options=signals.options) for question in own]
        results = retrievers[domain].search(queries, budget.k)
        gate = gates.get(domain, OPEN)
        for place, question, hits in zip(places, own, results, strict=True):
            treatments[place] = _treatment(question, hits, gate, budget, signals)
    return treatments


def query(question: Question, *, options: bool = False) -> str:
    """The search query: the question, with its options where `options` is set."""
    return "\n".join([question.text, *question.options]) if options else question.text


def as_passage(hit: Hit) -> Passage:
    """A hit as it may stand before a question: on one line, named by its headings."""
    chunk = hit.chunk
    named = chunk.heading if chunk.heading else PurePosixPath(chunk.source.split("#")[0]).stem
    return Passage(
        text=" ".join(chunk.text.split()),
        source=" ".join(named.split()),
        id=chunk.id,
        place=chunk.source,
        score=round(hit.score, 6),
        dense=None if hit.dense is None else round(hit.dense, 4),
        bm25=None if hit.bm25 is None else round(hit.bm25, 3),
    )


def best_cosine(passages: Sequence[Passage]) -> float | None:
    """The score that the gate reads: the largest cosine between question and passage."""
    return max((p.dense for p in passages if p.dense is not None), default=None)


def _treatment(
    question: Question, hits: Sequence[Hit], gate: Gate, budget: Budget, signals: QuestionSignals
) -> Treatment:
    retrieved = tuple(as_passage(hit) for hit in hits)
    score, confidence = best_cosine(retrieved), signals.confidence.get(question.id)
    use = gate.opens(score, confidence)
    return Treatment(
        passages=_within(retrieved[: gate.k], budget) if use else (),
        reason="rag" if use else _why_not(gate, score),
        retrieved=retrieved,
        searched=True,
        leak=signals.leaks.get(question.id, ""),
    )


def _within(passages: Sequence[Passage], budget: Budget) -> tuple[Passage, ...]:
    """The best passages that fit; the first that does not ends the list."""
    kept: list[Passage] = []
    used = 0
    for passage in passages:
        used += budget.count(f"{passage.source}: {passage.text}\n")
        if used > budget.tokens:
            break
        kept.append(passage)
    return tuple(kept)


def _why_not(gate: Gate, score: float | None) -> str:
    if gate.closed:
        return "base: the gate is shut"
    if score is None:
        return "base: nothing found"
    if score < gate.score:
        return f"base: best passage at {score:.3f}, below {gate.score:.3f}"
    return "base: sure without passages"
