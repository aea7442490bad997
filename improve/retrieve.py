"""A run with passages, and its gates from validation questions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from domainlift.errors import BenchError, Misuse
from improve.score import RunOptions, score_job
from rag.library import library
from rag.treatment import PASSAGES, TOKENS

if TYPE_CHECKING:
    from benchmarks.runs.runner import EvalJob
    from benchmarks.runs.store import Run
    from benchmarks.treatments.base import TreatmentPolicy
    from benchmarks.treatments.passages import OpenKnowledgeBases
    from engines.base import Engine
    from rag.contamination import Leak
    from rag.library import KnowledgeBases
    from rag.retrieval_gate import CalibrationSample, Gate
    from rag.search.retrieval import Retrieval

AUTO, OFF = "auto", "off"
#: How many passages calibration tries: one is right for a model that is easily misled.
NUMBERS = (1, PASSAGES)


@dataclass(frozen=True)
class RetrievalOptions:
    """What a user says about retrieval.

    No domains means all that have a knowledge base, no `k` that calibration chooses it.
    """

    domains: tuple[str, ...]
    gate: str
    retrieval: Retrieval
    k: int | None = None
    tokens: int = TOKENS
    options: bool = False


#: Puts an adapter under a treatment, or leaves it as it is.
Dress = Callable[["TreatmentPolicy"], "TreatmentPolicy"]


@dataclass(frozen=True)
class PassageRun:
    """A run with passages, the gates that it had, and the questions that stand in the sources."""

    run: Run
    gates: Mapping[str, Gate]
    leaks: tuple[Leak, ...]


def with_passages(
    job: EvalJob,
    plain: Run,
    engine: Engine,
    place: RunOptions,
    choice: RetrievalOptions,
    dress: Dress,
) -> PassageRun:
    """Score the questions of `plain`, a run of the same job, with passages before them."""
    from benchmarks.runs.evaluate_task import answer_cache
    from benchmarks.treatments import passages as rag
    from rag.treatment import QuestionSignals

    with library(place.workspace) as shelves:
        bases = _open(job, engine, choice, shelves)
        records = plain.records()
        leaks = rag.contaminated_questions(job.questions, bases)
        gates = _gates(job, engine, place, choice, bases, dress)
        told = QuestionSignals(
            rag.confidence(records), {leak.question: leak.chunk for leak in leaks}
        )
        helped = replace(job, policy=dress(rag.passage_policy(bases, gates, told)))
        known = answer_cache(records)
        run = score_job(helped, engine, place, part=helped.policy.name, known=known)
    return PassageRun(run, gates, tuple(leaks))


def _open(
    job: EvalJob, engine: Engine, choice: RetrievalOptions, shelves: KnowledgeBases
) -> OpenKnowledgeBases:
    """Open the knowledge base of every domain that is asked and has one."""
    from benchmarks.treatments.passages import OpenKnowledgeBases
    from rag.search.rerank import open_reranker
    from rag.treatment import Budget

    built = shelves.names()
    asked = {question.domain for question in job.questions}
    wanted = choice.domains if choice.domains else tuple(sorted(asked & set(built)))
    missing = [domain for domain in wanted if domain not in built]
    if missing or not wanted:
        names = ", ".join(f"`{name}`" for name in (missing or sorted(asked))[:5])
        first = missing[0] if len(missing) == 1 else "--all"
        raise BenchError(f"no knowledge base for {names}", f"`bench kb build {first}`")
    name = choice.retrieval.reranker
    rerank = open_reranker(name) if name is not None else None
    retrievers = {name: shelves.open(name, choice.retrieval, rerank) for name in wanted}
    k = choice.k if choice.k is not None else max(NUMBERS)
    return OpenKnowledgeBases(retrievers, Budget(engine.count, k, choice.tokens), choice.options)


def _gates(
    job: EvalJob,
    engine: Engine,
    place: RunOptions,
    choice: RetrievalOptions,
    bases: OpenKnowledgeBases,
    dress: Dress,
) -> Mapping[str, Gate]:
    """One gate per knowledge base: open, with a fixed threshold, or calibrated."""
    from benchmarks.held_out.validation_questions import validation_job
    from knowledge_bases.domains import load_domains
    from rag.retrieval_gate import OPEN, Gate

    if choice.gate == OFF:
        return dict.fromkeys(bases.retrievers, OPEN)
    if choice.gate != AUTO:
        try:
            gate = Gate(float(choice.gate))
        except ValueError as error:
            what = f"`--rag-gate {choice.gate}` is neither {AUTO}, {OFF} nor a number"
            raise Misuse(
                what, "a number is the least cosine of the best passage: 0.4, say"
            ) from error
        return dict.fromkeys(bases.retrievers, gate)
    numbers = NUMBERS if choice.k is None else (choice.k,)
    domains = load_domains(place.workspace)
    asked = validation_job(job, engine.info, place.data, domains, set(bases.retrievers))
    aside = replace(place, fresh=False)
    trials = _trials(asked, engine, aside, bases, numbers, dress) if asked is not None else {}
    return _calibrated(_model(engine, dress), bases, trials)


def _model(engine: Engine, dress: Dress) -> str:
    """What a gate is good for: the model, and the adapter that answers with it, if any."""
    from benchmarks.treatments.base import BASE_POLICY

    dressed = dress(BASE_POLICY)
    return (
        engine.info.digest
        if dressed is BASE_POLICY
        else f"{engine.info.digest}+{dressed.digest[:16]}"
    )


def _calibrated(
    model: str,
    bases: OpenKnowledgeBases,
    trials: Mapping[int, Mapping[str, Sequence[CalibrationSample]]],
) -> Mapping[str, Gate]:
    """Let the gates follow from how the validation questions fared, and keep them."""
    from benchmarks.treatments import passages as rag
    from rag.retrieval_gate import store_gate

    gates = {}
    for domain, (gate, tried) in rag.calibrate_gates(trials, bases.retrievers).items():
        gates[domain] = gate
        store_gate(bases.retrievers[domain].index.folder, model, gate, tried)
    return gates


def _trials(
    asked: EvalJob,
    engine: Engine,
    place: RunOptions,
    bases: OpenKnowledgeBases,
    numbers: Sequence[int],
    dress: Dress,
) -> dict[int, dict[str, list[CalibrationSample]]]:
    """By number of passages and by domain, how the validation questions fared."""
    from benchmarks.treatments import passages as rag
    from rag.retrieval_gate import Gate
    from rag.treatment import QuestionSignals

    plain = replace(asked, policy=dress(asked.policy))
    base = score_job(plain, engine, place, part=f"validation, {plain.policy.name}").records()
    leaks = {
        leak.question: leak.chunk for leak in rag.contaminated_questions(asked.questions, bases)
    }
    found = {}
    for k in numbers:
        every = dict.fromkeys(bases.retrievers, Gate(-math.inf, k=k))
        treater = dress(
            rag.passage_policy(bases, every, QuestionSignals({}, leaks), f"passages: {k}")
        )
        job = replace(asked, policy=treater)
        run = score_job(job, engine, place, part=f"validation, {treater.name}")
        found[k] = rag.calibration_samples(base, run.records())
    return found
