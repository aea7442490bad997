"""Passages as a treatment: calibration of gates, the oracle passage, contaminated questions."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence

from benchmarks.runs.store import Record
from benchmarks.scoring.score import probabilities
from benchmarks.treatments.base import TreatmentPolicy
from domainlift.types import Question, Treatment
from rag.contamination import Leak, find_leaks
from rag.retrieval_gate import CalibrationSample, Gate, calibrate
from rag.search.retrieval import Retriever
from rag.treatment import as_passage


def confidence(records: Sequence[Record]) -> dict[str, float]:
    """The probability of the chosen option among the options, for each record that has one."""
    return {
        record.id: round(probabilities(record.logprobs)[record.chosen], 6)
        for record in records
        if record.logprobs and isinstance(record.chosen, int)
    }


def calibration_samples(
    base: Sequence[Record], helped: Sequence[Record]
) -> dict[str, list[CalibrationSample]]:
    """Per domain, the questions that were answered without and with passages."""
    before = {record.id: record for record in base if record.correct is not None}
    confidences = confidence(base)
    samples: dict[str, list[CalibrationSample]] = defaultdict(list)
    for record in helped:
        score = max(
            (hit["dense"] for hit in record.retrieved if hit["dense"] is not None), default=None
        )
        if record.correct is None or record.id not in before or score is None or record.leak:
            continue
        was = bool(before[record.id].correct)
        samples[record.domain].append(
            CalibrationSample(score, confidences.get(record.id, 0.0), was, record.correct)
        )
    return dict(samples)


def gates_from_samples(
    samples: Mapping[int, Mapping[str, Sequence[CalibrationSample]]], domains: Iterable[str]
) -> dict[str, tuple[Gate, list[Gate]]]:
    """Per domain the best gate, and all that were tried; `samples` are by number of passages."""
    return {
        name: calibrate({k: found.get(name, []) for k, found in samples.items()})
        for name in domains
    }


def contaminated_ids(records: Iterable[Record]) -> set[str]:
    """The questions that stand in the knowledge base that was searched: they prove nothing."""
    return {record.id for record in records if record.leak}


def contaminated_questions(
    questions: Sequence[Question], retrievers: Mapping[str, Retriever]
) -> list[Leak]:
    """The questions that stand in the knowledge base of their own domain.

    One that stands in the passage of its own `support` was made of it, and is to find it.
    """
    support = {question.id: question.support for question in questions}
    leaks: list[Leak] = []
    for domain, retriever in retrievers.items():
        own = [question for question in questions if question.domain == domain]
        if own:
            vectors = retriever.encode([question.text for question in own])
            index = retriever.index
            found = find_leaks(own, index.chunks, question_vectors=vectors, dense=index.dense)
            leaks += [leak for leak in found if leak.source != support[leak.question]]
    return leaks


def oracle_passage_policy(retrievers: Mapping[str, Retriever]) -> TreatmentPolicy:
    """The treatment that asks what a model can read at all: the best passage for the right answer.

    It knows the answer, so it may decide what is tried, and never what is reported.
    """
    parts = [
        (domain, r.index.manifest.generation, r.settings.digest)
        for domain, r in sorted(retrievers.items())
    ]
    digest = hashlib.sha256(repr(["gold", parts]).encode()).hexdigest()
    return TreatmentPolicy("gold passage", digest, lambda asked: _oracle(asked, retrievers))


def _oracle(questions: Sequence[Question], retrievers: Mapping[str, Retriever]) -> list[Treatment]:
    treatments = [Treatment(reason="base: no knowledge base")] * len(questions)
    for domain, retriever in retrievers.items():
        places = [n for n, question in enumerate(questions) if question.domain == domain]
        hits = retriever.search([_with_answer(questions[n]) for n in places], 1)
        for place, found in zip(places, hits, strict=True):
            best = tuple(as_passage(hit) for hit in found)
            treatments[place] = Treatment(best, None, "gold passage", best, searched=True)
    return treatments


def _with_answer(question: Question) -> str:
    return f"{question.text}\n{question.answer_text}"
