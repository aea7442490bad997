"""Stage "select": every treatment on the selection questions, and their scores."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass, replace

from benchmarks.results.improve_result import FORM_ADAPTER, TreatmentScore
from benchmarks.runs.store import Record, Run
from benchmarks.treatments.gate_calibration import contaminated_ids
from benchmarks.treatments.plan import ORACLE
from ensemble.plan import DomainTreatment
from improve.context import ImproveContext
from improve.diagnose import TriageOutcome, by_domain
from improve.form_adapter import is_placebo
from improve.plan_runner import PlanRunner
from improve.resources import open_adapters, open_resources
from improve.retrieve import PASSAGE_COUNTS, calibrate_gates


@dataclass(frozen=True)
class TreatmentRuns:
    """Every treatment on the selection questions.

    `runs` are run names by treatment, `treatments` the domains' treatments by treatment name, and
    `answers` records by domain and treatment, in the order of cost.
    """

    runs: Mapping[str, str]
    treatments: Mapping[str, Mapping[str, DomainTreatment]]
    answers: Mapping[str, Mapping[str, list[Record]]]

    def candidates(self, domain: str) -> dict[str, list[Record]]:
        """The answers of a domain by the treatments that may be chosen: by all but a placebo."""
        return {
            name: records
            for name, records in self.answers.get(domain, {}).items()
            if name != FORM_ADAPTER or not is_placebo(self.treatments[name][domain])
        }


def run_treatments(
    context: ImproveContext,
    runner: PlanRunner,
    triage: TriageOutcome,
    passages: Mapping[str, DomainTreatment],
    adapters: Mapping[str, DomainTreatment],
    form_adapter: Mapping[str, DomainTreatment],
) -> TreatmentRuns:
    """Run each treatment on the selection questions; passages and adapter together as well.

    `passages`, `adapters` and `form_adapter` are the treatments of the domains that have a
    knowledge base, a trained adapter, and the adapter of all.
    """
    rag = {name: replace(passages[name], gate=triage.gates[name]) for name in triage.rag}
    both = {
        name: replace(adapters[name], treatment="rag+lora", knowledge_base=treatment.knowledge_base)
        for name, treatment in passages.items()
        if name in adapters
    }
    treatments: dict[str, Mapping[str, DomainTreatment]] = {
        FORM_ADAPTER: form_adapter,
        "lora": adapters,
        "rag": rag,
    }
    runs: dict[str, Run] = {"base": runner.base}
    workspace, engine = context.run_options.workspace, runner.engine()
    with open_resources(passages, engine, workspace) as resources:
        own = replace(resources, adapters=open_adapters(adapters, engine, workspace))
        common = replace(resources, adapters=open_adapters(form_adapter, engine, workspace))
        if both:
            # As many passages as serve the base model: each other number costs a run.
            found = {gate.k for gate in triage.gates.values() if not gate.closed and gate.k}
            counts = tuple(sorted(found)) if found else PASSAGE_COUNTS
            gates = calibrate_gates(runner, both, own, counts).gates
            treatments["rag+lora"] = {
                name: replace(treatment, gate=gates[name]) for name, treatment in both.items()
            }
        for treatment, domains in treatments.items():
            if domains:
                opened = common if treatment == FORM_ADAPTER else own
                runs[treatment] = runner.run(treatment, ORACLE, domains, opened)
    records = {name: run.records() for name, run in runs.items()}
    names = {name: run.folder.name for name, run in runs.items()}
    return TreatmentRuns(names, treatments, without_contaminated(records, treatments))


def without_contaminated(
    records: Mapping[str, list[Record]], treated: Mapping[str, Container[str]]
) -> dict[str, dict[str, list[Record]]]:
    """Records by domain and treatment, without questions that stand in a knowledge base.

    `treated` names the domains of each treatment; the base model's records are there for all.
    """
    leaks = contaminated_ids(record for each in records.values() for record in each)
    answers: dict[str, dict[str, list[Record]]] = {}
    for treatment, each in records.items():
        clean = [record for record in each if record.id not in leaks]
        for domain, own in by_domain(clean).items():
            if treatment == "base" or domain in treated[treatment]:
                answers.setdefault(domain, {})[treatment] = own
    return answers


def same_questions(records: Sequence[Record], of: Sequence[Record]) -> list[Record]:
    """The records of the questions that others answered."""
    wanted = {record.id for record in of}
    return [record for record in records if record.id in wanted]


def score_treatment(records: Sequence[Record]) -> TreatmentScore:
    """Accuracy and cost over a domain's answered questions; unanswered ones are left out."""
    answered = [record for record in records if record.correct is not None]
    n = len(answered)
    if not n:
        return TreatmentScore(0, 0.0, 0.0, 0.0)
    return TreatmentScore(
        n,
        sum(bool(record.correct) for record in answered) / n,
        sum(record.prompt_tokens + record.output_tokens for record in answered) / n,
        sum(record.seconds for record in answered) / n,
    )
