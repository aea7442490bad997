"""A run with passages, and its gates from validation questions."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from domainlift.errors import BenchError, Misuse
from improve.score import Place, scored
from rag.library import library
from rag.treatment import PASSAGES, TOKENS

if TYPE_CHECKING:
    from benchmarks.runs.runner import Job
    from benchmarks.runs.store import Run
    from benchmarks.treatments.base import Treater
    from benchmarks.treatments.passages import Bases
    from engines.base import Engine
    from rag.contamination import Leak
    from rag.library import Library
    from rag.retrieval_gate import Gate, Trial
    from rag.search.retrieval import Retrieval

AUTO, OFF = "auto", "off"
#: How many passages calibration tries: one is right for a model that is easily misled.
NUMBERS = (1, PASSAGES)


@dataclass(frozen=True)
class Choice:
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
Dress = Callable[["Treater"], "Treater"]


@dataclass(frozen=True)
class Helped:
    """A run with passages, the gates that it had, and the questions that stand in the sources."""

    run: Run
    gates: Mapping[str, Gate]
    leaks: tuple[Leak, ...]


def with_passages(
    job: Job, plain: Run, engine: Engine, place: Place, choice: Choice, dress: Dress
) -> Helped:
    """Score the questions of `plain`, a run of the same job, with passages before them."""
    from benchmarks.runs.evaluate_task import answered
    from benchmarks.treatments import passages as rag
    from rag.treatment import Known

    with library(place.workspace) as shelves:
        bases = _open(job, engine, choice, shelves)
        records = plain.records()
        leaks = rag.find_leaks(job.questions, bases)
        gates = _gates(job, engine, place, choice, bases, dress)
        told = Known(rag.confidence(records), {leak.question: leak.chunk for leak in leaks})
        helped = replace(job, treater=dress(rag.treater(bases, gates, told)))
        known = answered(records)
        run = scored(helped, engine, place, part=helped.treater.name, known=known)
    return Helped(run, gates, tuple(leaks))


def _open(job: Job, engine: Engine, choice: Choice, shelves: Library) -> Bases:
    """Open the knowledge base of every domain that is asked and has one."""
    from benchmarks.treatments.passages import Bases
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
    return Bases(retrievers, Budget(engine.count, k, choice.tokens), choice.options)


def _gates(
    job: Job, engine: Engine, place: Place, choice: Choice, bases: Bases, dress: Dress
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
    from benchmarks.treatments.base import BASE

    dressed = dress(BASE)
    return engine.info.digest if dressed is BASE else f"{engine.info.digest}+{dressed.digest[:16]}"


def _calibrated(
    model: str, bases: Bases, trials: Mapping[int, Mapping[str, Sequence[Trial]]]
) -> Mapping[str, Gate]:
    """Let the gates follow from how the validation questions fared, and keep them."""
    from benchmarks.treatments import passages as rag
    from rag.retrieval_gate import store_gate

    gates = {}
    for domain, (gate, tried) in rag.calibrated(trials, bases.retrievers).items():
        gates[domain] = gate
        store_gate(bases.retrievers[domain].index.folder, model, gate, tried)
    return gates


def _trials(
    asked: Job,
    engine: Engine,
    place: Place,
    bases: Bases,
    numbers: Sequence[int],
    dress: Dress,
) -> dict[int, dict[str, list[Trial]]]:
    """By number of passages and by domain, how the validation questions fared."""
    from benchmarks.treatments import passages as rag
    from rag.retrieval_gate import Gate
    from rag.treatment import Known

    plain = replace(asked, treater=dress(asked.treater))
    base = scored(plain, engine, place, part=f"validation, {plain.treater.name}").records()
    leaks = {leak.question: leak.chunk for leak in rag.find_leaks(asked.questions, bases)}
    found = {}
    for k in numbers:
        every = dict.fromkeys(bases.retrievers, Gate(-math.inf, k=k))
        treater = dress(rag.treater(bases, every, Known({}, leaks), f"passages: {k}"))
        job = replace(asked, treater=treater)
        run = scored(job, engine, place, part=f"validation, {treater.name}")
        found[k] = rag.trials(base, run.records())
    return found
