"""Scores of an exam's held-out questions, by whether training rows tell their facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

from benchmarks.results.exam_scores import ExamScore, ExamScores
from domainlift.stats.intervals import wilson

if TYPE_CHECKING:
    from benchmarks.runs.store import Record
    from improve.exam.exam import Exam


def exam_scores(exam: Exam, records: Mapping[str, Sequence[Record]]) -> ExamScores:
    """Divide the records of each treatment into held-out facts and held-out wordings."""
    taught = {question.id: question.taught for question in exam.questions}
    own = {
        name: {each.id.rpartition("/")[2]: each for each in found if each.domain == exam.name}
        for name, found in records.items()
    }
    return ExamScores(
        exam.name,
        exam.counts(),
        _scores(own, {name for name, is_taught in taught.items() if not is_taught}),
        _scores(own, {name for name, is_taught in taught.items() if is_taught}),
    )


def _scores(records: Mapping[str, Mapping[str, Record]], ids: set[str]) -> dict[str, ExamScore]:
    scores = {}
    for name, own in records.items():
        answers = [own[each].correct for each in ids & own.keys()]
        answered = [bool(correct) for correct in answers if correct is not None]
        if answered:
            right, n = sum(answered), len(answered)
            scores[name] = ExamScore(n, right / n, wilson(right, n))
    return scores
