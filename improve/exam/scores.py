"""Scores of an exam's held-out questions, by whether training rows tell their facts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from benchmarks.results.exam_scores import ExamScore, ExamScores
from benchmarks.runs.store import Record
from domainlift.stats.intervals import wilson
from improve.exam.exam import Exam


def exam_scores(
    exam: Exam,
    records: Mapping[str, Sequence[Record]],
    served: Mapping[str, Sequence[Record]],
    likely: Mapping[str, Sequence[Record]],
) -> ExamScores:
    """Divide the records of each treatment into held-out facts and held-out wordings.

    `served` are those of `served_answers` that were written, `likely` those by likelihood.
    """
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
        _answered(served),
        _answered(likely),
    )


def _answered(records: Mapping[str, Sequence[Record]]) -> dict[str, ExamScore]:
    return {
        name: _score([bool(each.correct) for each in found if each.correct is not None])
        for name, found in records.items()
        if found
    }


def _scores(records: Mapping[str, Mapping[str, Record]], ids: set[str]) -> dict[str, ExamScore]:
    scores = {}
    for name, own in records.items():
        answers = [own[each].correct for each in ids & own.keys()]
        answered = [bool(correct) for correct in answers if correct is not None]
        if answered:
            scores[name] = _score(answered)
    return scores


def _score(answers: Sequence[bool]) -> ExamScore:
    right, n = sum(answers), len(answers)
    return ExamScore(n, right / n if n else 0.0, wilson(right, n))
