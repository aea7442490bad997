"""Drift of what is asked: the mix of served questions against that of the exam."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from statistics import median

from benchmarks.runs.store import Record
from domainlift.stats.intervals import Interval, wilson
from improve.feedback.reply_log import ServedReply

#: The error rate of all rows together, and the share of the exam's questions that lie as far out.
_ALPHA, FAR = 0.05, 0.05


class DriftWord(StrEnum):
    """What is known of a share."""

    MORE = "more"
    LESS = "less"
    NO_EVIDENCE = "no evidence"


@dataclass(frozen=True)
class AskedQuestion:
    """Where a question was routed, "" for nowhere, and how near the knowledge base was."""

    route: str
    cosine: float | None = None


@dataclass(frozen=True)
class DriftShare:
    """A share of what is served, with its interval, beside that of the exam.

    The intervals of all rows hold together at 95 %: each is Wilson's at 1 - 0.05 / rows.
    """

    name: str
    count: int
    share: float
    interval: Interval
    exam: float
    word: DriftWord


@dataclass(frozen=True)
class Drift:
    """The routes of `n` served questions and of `exam_n` of the exam.

    `far` is the share of the searched questions that are farther from the knowledge base than all
    but a twentieth of the exam's, None where either side searched none; `cosines` are both medians.
    """

    n: int
    exam_n: int
    routes: tuple[DriftShare, ...]
    far: DriftShare | None = None
    cosines: tuple[float, float] | None = None


def served_questions(replies: Sequence[ServedReply]) -> list[AskedQuestion]:
    """The questions that the plan routed."""
    return [AskedQuestion(each.domain, each.cosine) for each in replies if each.routed]


def exam_questions(records: Sequence[Record]) -> list[AskedQuestion]:
    """The questions of the run that judged the plan, as it routed and searched for them."""
    return [AskedQuestion(record.route, _nearest(record)) for record in records]


def find_drift(served: Sequence[AskedQuestion], exam: Sequence[AskedQuestion]) -> Drift | None:
    """Compare both; None where one is empty."""
    if not served or not exam:
        return None
    now, then = Counter(q.route for q in served), Counter(q.route for q in exam)
    near = [q.cosine for q in served if q.cosine is not None]
    known = sorted(q.cosine for q in exam if q.cosine is not None)
    names = sorted(now | then, key=lambda name: (not name, name))
    level = 1 - _ALPHA / (len(names) + bool(near and known))
    routes = (_share(name, now[name], len(served), then[name] / len(exam), level) for name in names)
    if not near or not known:
        return Drift(len(served), len(exam), tuple(routes))
    bound = known[int(FAR * len(known))]
    below = sum(cosine < bound for cosine in near)
    farther = sum(cosine < bound for cosine in known) / len(known)
    far = _share("far from the documents", below, len(near), farther, level)
    cosines = (median(near), median(known))
    return Drift(len(served), len(exam), tuple(routes), far, cosines)


def _share(name: str, count: int, n: int, exam: float, level: float) -> DriftShare:
    interval = wilson(count, n, level)
    word = DriftWord.NO_EVIDENCE
    if interval.low > exam:
        word = DriftWord.MORE
    elif interval.high < exam:
        word = DriftWord.LESS
    return DriftShare(name, count, count / n, interval, exam, word)


def _nearest(record: Record) -> float | None:
    cosines = [hit.get("dense") for hit in record.retrieved]
    return max((float(each) for each in cosines if each is not None), default=None)
