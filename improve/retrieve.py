"""Stage "retrieve": knowledge bases of the weak domains, and gates calibrated on questions."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.runs.store import Record
from benchmarks.treatments.gate_calibration import calibration_samples, gates_from_samples
from benchmarks.treatments.plan import ORACLE
from domainlift.workspace import Workspace
from ensemble.plan import DomainTreatment
from ensemble.treatment import PlanResources
from improve.context import ImproveContext
from improve.notes import Notes
from improve.plan_runner import PlanRunner
from rag.embedding.registry import DEFAULT
from rag.index.build import BuildOptions
from rag.index.build_domain import build_from_files, domain_files
from rag.index.store import KnowledgeBaseStore
from rag.library import open_cached
from rag.retrieval_gate import OPEN, CalibrationSample, Gate
from rag.treatment import PASSAGES
from reports.progress import Stages

#: Numbers of passages that calibration tries: one is right for a model that is easily misled.
PASSAGE_COUNTS = (1, PASSAGES)
#: Share of wrong answers with which a domain needs no other number of passages.
FEW_WRONG = 0.05


@dataclass(frozen=True)
class Calibration:
    """Gates by domain, the gates that were tried, and the records by number of passages."""

    gates: Mapping[str, Gate]
    tried: Mapping[str, Sequence[Gate]]
    records: Mapping[int, Sequence[Record]]


def build_knowledge_bases(
    context: ImproveContext, names: Iterable[str], notes: Notes
) -> dict[str, DomainTreatment]:
    """Find the knowledge base of each domain, or build it from what the domain declares."""
    workspace = context.run_options.workspace
    store = KnowledgeBaseStore(Workspace(workspace).knowledge_bases)
    treatments = {}
    for name in names:
        if name not in store.names():
            with notes.instead_of(f"knowledge base for {name}"):
                files = domain_files(name, context.domains, context.run_options.data)
                with Stages(name) as stages:
                    options = BuildOptions(open_cached(DEFAULT, workspace))
                    report = build_from_files(name, files, options, workspace, stages)
                what = f"    {name}: {report.chunks:,} chunks in {report.seconds:.1f} s"
                print(what, file=sys.stderr)
        if name in store.names():
            generation = store.manifest(name).generation
            treatments[name] = DomainTreatment("rag", knowledge_base=generation)
    return treatments


def calibrate_gates(
    runner: PlanRunner,
    treatments: Mapping[str, DomainTreatment],
    resources: PlanResources,
    counts: Sequence[int] = PASSAGE_COUNTS,
    *,
    by_cosine: bool = True,
) -> Calibration:
    """Calibrate the gates of these domains on the runner's questions.

    Each question is asked without passages and with every number of passages, all gates open; a
    greater number is not tried where nearly all are right with a smaller one. Treatments with an
    adapter are answered by it both times. Unless `by_cosine`, the questions' cosines set no
    threshold.
    """
    if not treatments:
        return Calibration({}, {}, {})
    plain = runner.base
    prefix = "rag"
    if any(treatment.uses_adapter for treatment in treatments.values()):
        bare = {name: treatment.without_passages() for name, treatment in treatments.items()}
        plain = runner.run("lora", ORACLE, bare, resources)
        prefix = "rag+lora"
    records = {}
    for k in counts:
        opened = {
            name: replace(treatment, gate=replace(OPEN, k=k))
            for name, treatment in treatments.items()
        }
        title = f"{prefix}, passages: {k}"
        records[k] = runner.run(title, ORACLE, opened, resources).records()
        if all(_few_wrong(records[k], name) for name in treatments):
            break
    samples = {k: calibration_samples(plain.records(), found) for k, found in records.items()}
    if not by_cosine:
        samples = {k: {d: _without_cosine(own) for d, own in f.items()} for k, f in samples.items()}
    gates = gates_from_samples(samples, treatments)
    return Calibration(
        {name: gate for name, (gate, _) in gates.items()},
        {name: tried for name, (_, tried) in gates.items()},
        records,
    )


def _few_wrong(records: Sequence[Record], domain: str) -> bool:
    own = [record.correct for record in records if record.domain == domain]
    return bool(own) and sum(right is not True for right in own) <= FEW_WRONG * len(own)


def _without_cosine(samples: Sequence[CalibrationSample]) -> list[CalibrationSample]:
    return [replace(sample, score=1.0) for sample in samples]
