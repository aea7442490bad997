from __future__ import annotations

import pytest

from improve.feedback.drift import (
    AskedQuestion,
    DriftWord,
    exam_questions,
    find_drift,
    served_questions,
)
from tests.helpers.made_runs import question, record
from tests.improve.feedback.test_feedback import served


def asked(**counts: int) -> list[AskedQuestion]:
    """So many questions by route; `none` is no domain."""
    routes = {"" if name == "none" else name: n for name, n in counts.items()}
    return [AskedQuestion(name) for name, n in routes.items() for _ in range(n)]


@pytest.mark.parametrize(
    ("now", "words"),
    [
        (asked(law=50, arts=50), ["no evidence", "no evidence"]),
        (asked(law=5, arts=5), ["no evidence", "no evidence"]),
        (asked(law=8, arts=2), ["no evidence", "no evidence"]),  # too few to tell
        (asked(law=80, arts=20), ["less", "more"]),
        (asked(law=30, arts=30, none=40), ["less", "less", "more"]),
        (asked(none=400), ["less", "less", "more"]),
    ],
)
def test_shares_are_compared_with_those_of_the_exam(
    now: list[AskedQuestion], words: list[str]
) -> None:
    drift = find_drift(now, asked(law=50, arts=50))
    assert drift is not None
    assert [row.name for row in drift.routes][:2] == ["arts", "law"]
    assert [row.word for row in drift.routes] == words
    assert sum(row.count for row in drift.routes) == drift.n == len(now)


def test_no_drift_is_rarely_seen_where_there_is_none() -> None:
    import random

    draw, exam = random.Random(3), asked(law=60, arts=30, none=10)
    seen = 0
    for _ in range(400):
        drift = find_drift(draw.choices(exam, k=200), exam)
        assert drift is not None
        seen += any(row.word is not DriftWord.NO_EVIDENCE for row in drift.routes)
    assert seen / 400 < 0.08  # 5 % are meant; four standard errors more


def test_questions_far_from_the_documents_are_counted() -> None:
    exam = [AskedQuestion("law", 0.5 + n / 1000) for n in range(100)]
    near, far = AskedQuestion("law", 0.55), AskedQuestion("law", 0.2)
    same = find_drift([near] * 95 + [far] * 5, exam)
    assert same is not None
    assert same.far is not None
    assert (same.far.share, same.far.exam, same.far.word) == (0.05, 0.05, "no evidence")
    farther = find_drift([near] * 60 + [far] * 40, exam)
    assert farther is not None
    assert farther.far is not None
    assert (farther.far.word, farther.cosines) == ("more", (0.55, pytest.approx(0.5495)))


def test_nothing_is_compared_with_nothing() -> None:
    assert find_drift([], asked(law=1)) is None
    assert find_drift(asked(law=1), []) is None
    drift = find_drift(asked(law=1), asked(law=1))
    assert drift is not None
    assert drift.far is None


def test_what_somebody_named_is_not_routed() -> None:
    replies = [served(1, domain="law"), served(2, domain="", routed=False)]
    assert served_questions(replies) == [AskedQuestion("law", 0.7)]
    hits = ({"dense": 0.3}, {"dense": None}, {"dense": 0.6})
    records = [record(question(1), True, route="law", retrieved=hits), record(question(2), True)]
    assert exam_questions(records) == [AskedQuestion("law", 0.6), AskedQuestion("")]
