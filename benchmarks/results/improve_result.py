"""Result of `bench improve`: diagnosis, treatments and held-out change, by domain."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from benchmarks.held_out.choice import BASE, Choice
from benchmarks.held_out.gate import DomainVerdict, Promotion
from benchmarks.results.domain_scores import EvalResult
from benchmarks.results.exam_scores import ExamScores
from benchmarks.results.strengths import Strength, protected_strengths, watched_domains
from benchmarks.scoring.forms import FormScore
from domainlift.stats.intervals import Interval
from domainlift.stats.paired import Paired

#: Word for a domain whose score shows a fault of the harness.
FAULTY = "faulty"
#: Treatment by one adapter that was trained on rows of other domains.
FORM_ADAPTER = "form adapter"


@dataclass(frozen=True)
class TreatmentScore:
    """A treatment on the selection questions of one domain; `tokens` are per question."""

    n: int
    accuracy: float
    tokens: float
    seconds: float


@dataclass(frozen=True)
class TriageResult:
    """Counts of one domain's questions by what treats them.

    Misses are `noise` (right when asked again), else mended by the `passages` that were found,
    else only by the one for the right answer (`retrieval` is to be mended), else by nothing
    (`unrecoverable`). Hits are `broken` by passages or not; `form` of them are missed in the
    tasks' own form, and right in the one in which everything is asked.
    """

    n: int
    hits: int
    noise: int
    passages: int
    retrieval: int
    unrecoverable: int
    broken: int
    form: int = 0

    @property
    def ceilings(self) -> dict[str, float]:
        """The most that each treatment can gain, as a difference of accuracies.

        Passages: with a gate that is never wrong. An adapter: every miss that is not noise.
        """
        real = self.passages + self.retrieval + self.unrecoverable
        return {
            "rag": self._share(self.passages),
            "rag, retrieval mended": self._share(self.passages + self.retrieval),
            "lora": self._share(real),
            "rag+lora": self._share(real),
        }

    def as_json(self) -> dict[str, Any]:
        """The counts, where `beyond` is the key of `unrecoverable`, and the ceilings."""
        counts = asdict(self)
        counts["beyond"] = counts.pop("unrecoverable")
        return {**counts, "ceilings": self.ceilings}

    def _share(self, count: int) -> float:
        return count / self.n if self.n else 0.0


@dataclass(frozen=True)
class RetestNoise:
    """How often the base model answers otherwise when it is asked the same again."""

    n: int
    flips: int
    interval: Interval


@dataclass(frozen=True)
class Diagnosis:
    """A word per domain: strong, weak, uncertain or faulty; and the noise of asking again.

    `base` is the base model's profile on selection questions.
    """

    words: Mapping[str, str]
    noise: RetestNoise
    base: EvalResult

    def named(self, word: str) -> list[str]:
        """The domains of which this is said."""
        return [domain for domain, said in self.words.items() if said == word]


@dataclass(frozen=True)
class HeldOutResult:
    """The plan on held-out questions: how it did, and what else could have been done.

    `change` is by domain and in total under "". `controls` are accuracy and cost of other ways to
    send questions: to the label's domain, at random, and all to one treatment. `look` is the
    number of the look at these questions. `leaked` questions stood in a knowledge base and do not
    count.
    """

    change: Mapping[str, Paired]
    promotion: Promotion
    controls: Mapping[str, TreatmentScore]
    routed: float
    look: int
    level: float
    due: bool
    leaked: int = 0


@dataclass(frozen=True)
class BestForm:
    """The form that serves better than the tasks' own, "" for none, and all that were tried."""

    label: str = ""
    tried: Mapping[str, FormScore] = field(default_factory=dict)


@dataclass(frozen=True)
class ImproveResult:
    """The whole loop. `treatments` are by domain and treatment, on selection questions.

    All of them are asked in the best `form`; `own_form` is the base model in the tasks' own.
    `strengths` is every domain's test against guessing; the `treated` are to change. `beyond_form`
    is by domain what its own adapter changes against one that saw no row of it; `exam` are the
    held-out scores of one that was made of documents.
    """

    model: str
    suite: str
    diagnosis: Diagnosis
    triage: Mapping[str, TriageResult] = field(default_factory=dict)
    treatments: Mapping[str, Mapping[str, TreatmentScore]] = field(default_factory=dict)
    strengths: Mapping[str, Strength] = field(default_factory=dict)
    treated: Sequence[str] = ()
    form: BestForm = field(default_factory=lambda: BestForm())
    own_form: Mapping[str, TreatmentScore] = field(default_factory=dict)
    beyond_form: Mapping[str, Paired] = field(default_factory=dict)
    chosen: Mapping[str, Choice] = field(default_factory=dict)
    notes: Sequence[str] = ()
    proof: HeldOutResult | None = None
    exam: ExamScores | None = None
    plan: Path | None = None
    report: Path | None = None
    runs: Mapping[str, str] = field(default_factory=dict)
    stages: Mapping[str, float] = field(default_factory=dict)

    @property
    def seconds(self) -> float:
        """How long it took, this time."""
        return sum(self.stages.values())

    @property
    def verdict(self) -> str:
        """The gate's word; where there was nothing to judge, why."""
        return self.proof.promotion.word.value if self.proof is not None else "nothing to treat"

    def as_json(self) -> dict[str, Any]:
        """The object that `bench improve --json` prints."""
        return {
            "schema": 1,
            "model": self.model,
            "suite": self.suite,
            "plan": str(self.plan) if self.plan is not None else None,
            "report": str(self.report) if self.report is not None else None,
            "verdict": self.verdict,
            "why": self.proof.promotion.why if self.proof is not None else "",
            "noise": asdict(self.diagnosis.noise),
            "protected": {name: each.as_json() for name, each in self.protected.items()},
            "watched": {name: each.as_json() for name, each in self.watched.items()},
            "form": asdict(self.form),
            "domains": {domain: self._domain(domain) for domain in self.diagnosis.words},
            "controls": self._controls(),
            "look": self._look(),
            "runs": dict(self.runs),
            "notes": list(self.notes),
            "stages": {name: round(value, 1) for name, value in self.stages.items()},
            "seconds": round(self.seconds, 1),
            **(self.exam.as_json() if self.exam is not None else {}),
        }

    @property
    def protected(self) -> dict[str, Strength]:
        """What the base model is better at than chance, and what is not treated."""
        return protected_strengths(self.strengths, self.treated)

    @property
    def watched(self) -> dict[str, Strength]:
        """What is declared as a strength and not shown to be one: watched for harm."""
        return watched_domains(self.strengths, self.treated)

    def scores(self, domain: str) -> dict[str, TreatmentScore]:
        """Scores by treatment: the base model in the tasks' own form, then in the best one."""
        found = dict(self.treatments.get(domain, {}))
        if BASE not in found:
            return found
        return {**found, "base": self.own_form.get(domain, found[BASE]), "form": found[BASE]}

    def chosen_name(self, domain: str) -> str:
        """The treatment that was chosen; "form" where the better form is all that is done."""
        choice = self.chosen.get(domain)
        if choice is None:
            return BASE
        return "form" if choice.treatment == BASE and self.form.label else choice.treatment

    def _domain(self, domain: str) -> dict[str, Any]:
        scores = self.scores(domain)
        triage = self.triage.get(domain)
        told: dict[str, Any] = {
            "diagnosis": self.diagnosis.words[domain],
            "triage": triage.as_json() if triage is not None else None,
        }
        for name in ("base", "form", FORM_ADAPTER, "rag", "lora", "rag+lora"):
            found = scores.get(name)
            key = name.replace("+", "_").replace(" ", "_")
            told[key] = asdict(found) if found is not None else None
        beyond = self.beyond_form.get(domain)
        told["lora_beyond_form"] = _without_accuracies(beyond) if beyond is not None else None
        choice = self.chosen.get(domain)
        told["chosen"] = self.chosen_name(domain)
        told["decided_by"] = _decided_by(choice) if choice is not None else None
        told["held_out"] = self._held_out(domain)
        return told

    def _held_out(self, domain: str) -> dict[str, Any] | None:
        if self.proof is None or domain not in self.proof.change:
            return None
        change = self.proof.change[domain]
        judged: DomainVerdict | None = self.proof.promotion.domains.get(domain)
        return {
            **change.as_json(),
            "p_holm": judged.p if judged is not None else None,
            "word": judged.word.value if judged is not None else None,
            "why": judged.why if judged is not None else None,
            "further": judged.questions_needed if judged is not None else None,
        }

    def _controls(self) -> dict[str, Any]:
        if self.proof is None:
            return {}
        return {name: asdict(found) for name, found in self.proof.controls.items()}

    def _look(self) -> dict[str, Any] | None:
        if self.proof is None:
            return None
        return {"number": self.proof.look, "level": self.proof.level, "fresh_due": self.proof.due}


def _without_accuracies(change: Paired) -> dict[str, Any]:
    kept = change.as_json()
    del kept["baseline"], kept["candidate"]
    return kept


def _decided_by(choice: Choice) -> dict[str, Any]:
    evidence = {"against": choice.against or None, "margin": choice.margin, "p": choice.p}
    return {"rule": choice.rule.value, **evidence}
