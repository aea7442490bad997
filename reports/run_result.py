"""Terminal view of a run with a treatment beside the base run."""

from __future__ import annotations

from collections.abc import Sequence

from benchmarks.results.domain_scores import DomainScore
from benchmarks.results.run_result import RunResult
from domainlift.hints import copyable
from domainlift.stats.formatting import accuracy, difference, interval, p_value
from domainlift.stats.paired import Paired
from rag.contamination import Leak
from rag.retrieval_gate import DOCUMENTS, RETRIEVAL, TRAIN, VALIDATION, Gate
from reports.domain_scores import remarks, show_forms, show_scores
from reports.letter_table import show_letters
from reports.metric_tables import show_metrics
from reports.terminal import print_line, print_table

_CHANGE = ("difference", "95 % interval", "p", "gained", "lost")
_PASSAGES = ("retrieved", "let in", "leaked")
_LEAKS = 5
#: Basis of a gate's calibration -> what its questions are called.
_BASES = {
    VALIDATION: "validation questions",
    TRAIN: "training questions",
    DOCUMENTS: "questions made of the documents",
}


def show_run_result(outcome: RunResult) -> None:
    """Print a profile, or, where something was done to the questions, what it changed."""
    if outcome.base is None:
        show_scores(outcome.profile)
        return
    profile = outcome.profile
    runs = f"runs {outcome.base.run} and {profile.run}"
    print_line(f"{profile.model} on {profile.suite} ({runs})")
    columns = [
        "domain",
        "n",
        *outcome.treatments,
        *_CHANGE,
        *(_PASSAGES if _retrieved(outcome) else ()),
    ]
    rows = []
    for domain, change in outcome.paired.items():
        if domain:
            scores = [arm.domains[domain] for arm in outcome.treatments.values()]
            rows.append(_row(domain, scores, change)[: len(columns)])
    if "" in outcome.paired and len(outcome.paired) > 2:
        scores = [arm.overall for arm in outcome.treatments.values()]
        rows.append(_row("overall", scores, outcome.paired[""])[: len(columns)])
    print_table(columns, rows, right={*columns} - {"domain"})
    show_metrics({**profile.domains, "overall": profile.overall})
    show_letters(profile)
    show_forms(profile)
    gates = [f"gate of {domain}: {_gate(gate)}" for domain, gate in outcome.gates.items()]
    notes = [*gates, *_clean(outcome), *_leaked(outcome.leaks)]
    for line in [*notes, *remarks(profile)]:
        print_line(line)


def _retrieved(outcome: RunResult) -> bool:
    return any(score.retrieved for score in outcome.profile.domains.values())


def _row(domain: str, scores: Sequence[DomainScore], change: Paired) -> list[str]:
    return [
        domain,
        str(change.n),
        *(accuracy(score.accuracy) for score in scores),
        difference(change.difference),
        interval(change.interval, sign=True),
        p_value(change.p),
        str(change.gains),
        str(change.losses),
        str(scores[-1].retrieved),
        str(scores[-1].n_with_passages),
        str(scores[-1].leaked),
    ]


def _gate(gate: Gate) -> str:
    """What a gate does, and on what evidence."""
    questions = f"{gate.n} {_BASES.get(gate.basis, 'questions')}"
    if gate.closed:
        return f"shut: passages are not shown to help on {questions} (`--rag-gate off` opens it)"
    least = "any score" if gate.score == float("-inf") else f"a cosine of {gate.score:.3f}"
    sure = "" if gate.confidence >= 1 else f" and a confidence of at most {gate.confidence:.3f}"
    if gate.basis == RETRIEVAL:
        return f"open from {least}, which foreign questions hardly reach; it is not calibrated"
    if not gate.n:
        return f"open from {least}"
    number = f", {gate.k} passage{'s' * (gate.k > 1)} at most" if gate.k is not None else ""
    return (
        f"open from {least}{sure}{number}; on {questions} it let in "
        f"{gate.n_opened}, {gate.gains} turned right and {gate.losses} wrong"
    )


def _clean(outcome: RunResult) -> list[str]:
    """The second figure of each domain in which questions leaked."""
    return [
        f"{domain} without the {score.leaked} leaked questions: {accuracy(score.clean.accuracy)} "
        f"{interval(score.clean.interval)} (n {score.clean.n})"
        for domain, score in outcome.profile.domains.items()
        if score.clean is not None
    ]


def _leaked(leaks: tuple[Leak, ...]) -> list[str]:
    if not leaks:
        return []
    lines = [f"warning: {len(leaks)} questions stand in the knowledge base; they prove nothing"]
    lines += [
        f"  {leak.question} {leak.kind} in {leak.source} (chunk {leak.chunk})"
        for leak in leaks[:_LEAKS]
    ]
    if len(leaks) > _LEAKS:
        lines.append(copyable("  `bench kb check DOMAIN` lists all"))
    return lines
