"""Triage: what each treatment could mend at most, found by asking alone, before any training.

Each miss is asked once more as it was (one that turns is noise), then with the passages that are
found, then with the best passage for its right answer. Each hit is asked with passages too: one
that breaks is what the gate must keep them from.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.results.improve_result import TriageResult
from benchmarks.runs.store import Record


@dataclass(frozen=True)
class TriageAnswers:
    """Records by question: as it is asked, asked again, with passages, and with the gold one."""

    base: Mapping[str, Record]
    again: Mapping[str, Record]
    passages: Mapping[str, Record]
    gold: Mapping[str, Record]


def by_id(records: Sequence[Record]) -> dict[str, Record]:
    """Records by question."""
    return {record.id: record for record in records}


def by_domain(records: Iterable[Record]) -> dict[str, list[Record]]:
    """Records by domain, in their order."""
    found: dict[str, list[Record]] = {}
    for record in records:
        found.setdefault(record.domain, []).append(record)
    return found


def misses(records: Sequence[Record]) -> list[str]:
    """The questions that were answered wrong; those without an answer are nobody's miss."""
    return [record.id for record in records if record.correct is False]


def triage(evidence: TriageAnswers) -> dict[str, TriageResult]:
    """Count the questions of each domain that were answered."""
    fates: dict[str, list[str]] = {}
    for record in evidence.base.values():
        if record.correct is not None:
            fates.setdefault(record.domain, []).append(_outcome(record, evidence))
    return {domain: _counted(found) for domain, found in sorted(fates.items())}


def _outcome(record: Record, evidence: TriageAnswers) -> str:
    if record.correct:
        helped = evidence.passages.get(record.id)
        return "broken" if helped is not None and helped.correct is False else "hit"
    for name in ("again", "passages", "gold"):
        asked = getattr(evidence, name).get(record.id)
        if asked is not None and asked.correct:
            return str(name)
    return "beyond"


def _counted(fates: Sequence[str]) -> TriageResult:
    return TriageResult(
        n=len(fates),
        hits=fates.count("hit") + fates.count("broken"),
        noise=fates.count("again"),
        passages=fates.count("passages"),
        retrieval=fates.count("gold"),
        unrecoverable=fates.count("beyond"),
        broken=fates.count("broken"),
    )
