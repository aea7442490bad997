"""Gates of `bench run --rag`: open, with a fixed threshold, or calibrated on what there is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace

from benchmarks.held_out.split import validation_job
from benchmarks.runs.runner import EvalJob
from domainlift.errors import Misuse
from domainlift.types import Split
from engines.base import Engine
from ensemble.plan import DomainTreatment
from ensemble.treatment import PlanResources
from improve.gate_questions import document_job, foreign_threshold
from improve.options import RetrievalOptions
from improve.plan_runner import PlanRunner
from improve.retrieve import PASSAGE_COUNTS, Calibration, calibrate_gates
from improve.score import score_job
from knowledge_bases.domains import Domain, load_domains
from rag.retrieval_gate import (
    DOCUMENTS,
    FEWEST,
    OPEN,
    RETRIEVAL,
    TRAIN,
    VALIDATION,
    Gate,
    store_gate,
)

AUTO, OFF = "auto", "off"
#: Questions of the train split that are asked at most.
MOST = 300
Treatments = Mapping[str, "DomainTreatment"]


def open_or_calibrate_gates(
    runner: PlanRunner,
    treatments: Treatments,
    resources: PlanResources,
    wanted: RetrievalOptions,
) -> Mapping[str, Gate]:
    """One gate per knowledge base; those that are calibrated are stored beside it.

    A domain is calibrated on the first questions of which there are enough: validation questions,
    those of the train split, those made of its documents. Where there are none, the threshold
    comes from retrieval alone.
    """
    with_passages = {name: each for name, each in treatments.items() if each.uses_passages}
    if wanted.gate == OFF:
        return dict.fromkeys(with_passages, OPEN)
    if wanted.gate != AUTO:
        return dict.fromkeys(with_passages, _fixed_gate(wanted.gate))
    sources = _Sources(runner, resources, load_domains(runner.options.workspace))
    counts = PASSAGE_COUNTS if wanted.k is None else (wanted.k,)
    gates: dict[str, Gate] = {}
    for basis in (VALIDATION, TRAIN, DOCUMENTS):
        left = {name: each for name, each in with_passages.items() if name not in gates}
        calibration = sources.calibrate(basis, left, counts)
        for name, gate in calibration.gates.items():
            if gate.n >= FEWEST:
                gates[name] = sources.on_basis(basis, name, gate)
                folder = resources.retrievers[name].index.folder
                model = _answering_model(runner.engine(), with_passages[name])
                store_gate(folder, model, gates[name], calibration.tried.get(name, ()))
    for name in with_passages.keys() - gates.keys():
        gates[name] = sources.on_basis(RETRIEVAL, name, OPEN)
    return {name: gates[name] for name in with_passages}


@dataclass(frozen=True)
class _Sources:
    """Sources of questions for a run's gates."""

    runner: PlanRunner
    resources: PlanResources
    domains: dict[str, Domain]

    def calibrate(self, basis: str, treatments: Treatments, counts: Sequence[int]) -> Calibration:
        """Calibrate on the questions of one basis; no gates where it has none."""
        if basis == TRAIN:
            # An adapter may have learned these very answers.
            treatments = {n: each for n, each in treatments.items() if not each.uses_adapter}
        job = self._job(basis, treatments) if treatments else None
        if job is None:
            return Calibration({}, {}, {})
        asked = {question.domain for question in job.questions}
        treatments = {name: each for name, each in treatments.items() if name in asked}
        options = replace(self.runner.options, fresh=False)
        base = score_job(job, self.runner.engine(), options, part=f"{basis}, base")
        runner = PlanRunner.from_base_run(job, self.runner.engine, options, base)
        if basis == DOCUMENTS:
            # They stand in the knowledge base, of which they were made: that is no leak.
            runner.leaks.update({(q.domain, q.id): None for q in job.questions})
        by_cosine = basis != DOCUMENTS
        return calibrate_gates(runner, treatments, self.resources, counts, by_cosine=by_cosine)

    def on_basis(self, basis: str, name: str, gate: Gate) -> Gate:
        """The gate with its basis, and with a threshold from retrieval where it lacks its own."""
        if basis in (DOCUMENTS, RETRIEVAL) and not gate.closed:
            least = foreign_threshold(name, self.resources.retrievers[name], self.domains)
            gate = replace(gate, score=least)
        return replace(gate, basis=basis)

    def _job(self, basis: str, treatments: Treatments) -> EvalJob | None:
        job, info = self.runner.job, self.runner.engine().info
        if basis == DOCUMENTS:
            return document_job(
                job, info, {name: self.resources.retrievers[name] for name in treatments}
            )
        split: Split = "train" if basis == TRAIN else "validation"
        most = MOST if basis == TRAIN else None
        data = self.runner.options.data
        return validation_job(job, info, data, self.domains, set(treatments), split, most)


def _fixed_gate(text: str) -> Gate:
    with suppress(ValueError):
        if -1 <= float(text) <= 1:
            return Gate(float(text))
    what = f"`--rag-gate {text}` is neither {AUTO}, {OFF} nor a number from -1 to 1"
    raise Misuse(what, "a number is the least cosine of the best passage: 0.4, say")


def _answering_model(engine: Engine, treatment: DomainTreatment) -> str:
    """What a gate is good for: the model, and the adapter that answers with it, if any."""
    digest = engine.info.digest
    return f"{digest}+{treatment.adapter_digest[:16]}" if treatment.uses_adapter else digest
