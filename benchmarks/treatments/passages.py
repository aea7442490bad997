"""Retrieval as a treatment of a run, and its gates from two runs on validation questions."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from benchmarks.runs.store import Record
from benchmarks.scoring.score import probabilities
from benchmarks.treatments.base import TreatmentPolicy
from domainlift.types import Question, Treatment
from rag.contamination import Leak, find_leaks
from rag.retrieval_gate import OPEN, CalibrationSample, Gate, calibrate
from rag.treatment import Budget, QuestionSignals, as_passage, treat_with_passages

if TYPE_CHECKING:
    from rag.search.retrieval import Retriever


@dataclass(frozen=True)
class OpenKnowledgeBases:
    """The opened knowledge bases of a run, by domain, and how their passages are used."""

    retrievers: Mapping[str, Retriever]
    budget: Budget
    options: bool = False

    def digest(self, gates: Mapping[str, Gate], known: QuestionSignals) -> str:
        """Changes with anything that may change which passages stand before a question."""
        parts = [
            [
                (domain, r.index.manifest.generation, r.settings.digest, gates.get(domain, OPEN))
                for domain, r in sorted(self.retrievers.items())
            ],
            (self.budget.k, self.budget.tokens, self.options),
            sorted(known.confidence.items()),
            sorted(known.leaks.items()),
        ]
        return hashlib.sha256(repr(parts).encode()).hexdigest()


def passage_policy(
    bases: OpenKnowledgeBases,
    gates: Mapping[str, Gate],
    known: QuestionSignals,
    name: str = "passages",
) -> TreatmentPolicy:
    """The treatment of a run: passages where the gate of the question's domain lets them in."""
    known = replace(known, options=bases.options)

    def passages(questions: Sequence[Question]) -> Sequence[Treatment]:
        return treat_with_passages(questions, bases.retrievers, gates, bases.budget, known)

    return TreatmentPolicy(name, bases.digest(gates, known), passages)


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
    """Per domain, the validation questions that were answered without and with passages."""
    before = {record.id: record for record in base if record.correct is not None}
    sure = confidence(base)
    found: dict[str, list[CalibrationSample]] = defaultdict(list)
    for record in helped:
        score = max(
            (hit["dense"] for hit in record.retrieved if hit["dense"] is not None), default=None
        )
        if record.correct is None or record.id not in before or score is None or record.leak:
            continue
        was = bool(before[record.id].correct)
        found[record.domain].append(
            CalibrationSample(score, sure.get(record.id, 0.0), was, record.correct)
        )
    return dict(found)


def calibrate_gates(
    tried: Mapping[int, Mapping[str, Sequence[CalibrationSample]]], domains: Iterable[str]
) -> dict[str, tuple[Gate, list[Gate]]]:
    """Per domain the best gate, and all that were tried; `tried` is by number of passages."""
    return {
        name: calibrate({k: found.get(name, []) for k, found in tried.items()}) for name in domains
    }


def contaminated_ids(records: Iterable[Record]) -> set[str]:
    """The questions that stand in the knowledge base that was searched: they prove nothing."""
    return {record.id for record in records if record.leak}


def contaminated_questions(questions: Sequence[Question], bases: OpenKnowledgeBases) -> list[Leak]:
    """The questions that stand in the knowledge base of their own domain."""
    leaked: list[Leak] = []
    for domain, retriever in bases.retrievers.items():
        own = [question for question in questions if question.domain == domain]
        if own:
            vectors = retriever.encode([question.text for question in own])
            index = retriever.index
            leaked += find_leaks(own, index.chunks, question_vectors=vectors, dense=index.dense)
    return leaked


def oracle_passage_policy(bases: OpenKnowledgeBases) -> TreatmentPolicy:
    """The treatment that asks what a model can read at all: the best passage for the right answer.

    It knows the answer, so it may decide what is tried, and never what is reported.
    """
    parts = [
        (domain, r.index.manifest.generation, r.settings.digest)
        for domain, r in sorted(bases.retrievers.items())
    ]
    digest = hashlib.sha256(repr(["gold", parts]).encode()).hexdigest()
    return TreatmentPolicy("gold passage", digest, lambda questions: _golden(questions, bases))


def _golden(questions: Sequence[Question], bases: OpenKnowledgeBases) -> list[Treatment]:
    made = [Treatment(reason="base: no knowledge base")] * len(questions)
    for domain, retriever in bases.retrievers.items():
        places = [n for n, question in enumerate(questions) if question.domain == domain]
        hits = retriever.search([_with_answer(questions[n]) for n in places], 1)
        for place, found in zip(places, hits, strict=True):
            best = tuple(as_passage(hit) for hit in found)
            made[place] = Treatment(best, None, "gold passage", best, searched=True)
    return made


def _with_answer(question: Question) -> str:
    answer = question.answer
    said = question.options[answer] if isinstance(answer, int) else answer
    return f"{question.text}\n{said}"
