"""Two runs on the same questions, domain by domain."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence

from benchmarks.runs.store import Record, Run
from domainlift.stats.paired import Paired, paired
from domainlift.types import Question


def paired_changes(before: Run, after: Run) -> dict[str, Paired]:
    """Compare two runs per domain, and in total under "" as name."""
    questions = {question.id: question for question in after.questions()}
    return paired_record_changes(before.records(), after.records(), questions)


def paired_record_changes(
    before: Sequence[Record], after: Sequence[Record], questions: Mapping[str, Question]
) -> dict[str, Paired]:
    """Compare records of the same questions; one that has no answer on either side is left out."""
    known = {record.id: record.correct for record in before if record.correct is not None}
    rows: dict[str, list[tuple[bool, bool, str]]] = defaultdict(list)
    for record in after:
        if record.id in known and record.correct is not None and record.id in questions:
            row = (bool(known[record.id]), record.correct, questions[record.id].cluster)
            rows[record.domain].append(row)
            rows[""].append(row)
    return {domain: _paired(rows[domain]) for domain in sorted(rows)}


def _paired(rows: Sequence[tuple[bool, bool, str]]) -> Paired:
    return paired([r[0] for r in rows], [r[1] for r in rows], [r[2] for r in rows])
