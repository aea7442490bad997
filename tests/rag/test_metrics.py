"""Measures of a ranking, against values computed by hand."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rag.quality.metrics import REPORTED, hole, judged, mrr, ndcg, recall, retrieval_metrics

GRADES = {"a": 2, "b": 1, "c": 0}
LOG3, IDEAL = math.log2(3), 2 + 1 / math.log2(3)


@pytest.mark.parametrize(
    ("ranking", "k", "value"),
    [
        (["a", "b"], 10, 1.0),
        (["b", "a"], 10, (1 + 2 / LOG3) / IDEAL),
        (["x", "a"], 10, (2 / LOG3) / IDEAL),
        (["x", "y", "b"], 10, 0.5 / IDEAL),
        (["b", "a"], 1, 0.5),  # the ideal is cut at k too
        (["c", "x"], 10, 0.0),
        ([], 10, 0.0),
    ],
)
def test_ndcg(ranking: list[str], k: int, value: float) -> None:
    assert ndcg(GRADES, ranking, k) == pytest.approx(value)


@pytest.mark.parametrize(
    ("metric", "ranking", "k", "value"),
    [
        (recall, ["a", "x", "b"], 10, 1.0),
        (recall, ["a", "x", "b"], 2, 0.5),
        (recall, ["c"], 10, 0.0),
        (mrr, ["x", "c", "b", "a"], 10, 1 / 3),
        (mrr, ["x", "c", "b"], 2, 0.0),
        (mrr, ["a"], 1, 1.0),
        (hole, ["a", "x", "c", "y"], 10, 0.5),  # judged as useless is judged
        (hole, ["a", "x", "c", "y"], 1, 0.0),
        (hole, [], 10, 0.0),
    ],
)
def test_others(metric, ranking: list[str], k: int, value: float) -> None:
    assert metric(GRADES, ranking, k) == pytest.approx(value)


def test_a_grade_below_zero_gains_nothing() -> None:
    assert ndcg({"spam": -2, "a": 1}, ["spam", "a"], 10) == pytest.approx(1 / LOG3)
    assert ndcg({"spam": -2}, ["spam"], 10) == 0.0


def test_means_go_over_queries_with_a_relevant_document() -> None:
    qrels = {"1": {"a": 1}, "2": {"b": 1}, "nothing relevant": {"a": 0}, "none at all": {}}
    results = {"1": ["a"], "2": ["a"], "nothing relevant": ["a"], "not judged": ["a"]}
    assert judged(qrels) == ["1", "2"]
    found = retrieval_metrics(qrels, results)
    assert (found["mrr@10"], found["hole@10"]) == (0.5, 0.5)


def test_a_query_without_results_counts_as_zero() -> None:
    found = retrieval_metrics({"1": {"a": 1}, "2": {"a": 1}}, {"1": ["a"]})
    assert found["ndcg@10"] == 0.5


def test_nothing_to_measure() -> None:
    assert set(retrieval_metrics({}, {}).values()) == {0.0}
    assert retrieval_metrics({}, {}).keys() == REPORTED.keys()


def test_a_document_that_comes_twice_counts_once() -> None:
    found = retrieval_metrics({"1": {"a": 1, "b": 1}}, {"1": ["a", "a", "b"]})
    assert found["ndcg@10"] == 1.0


documents = st.sampled_from("abcdefgh")
grades = st.dictionaries(documents, st.integers(-1, 3))
rankings = st.lists(documents, unique=True)


@given(grades, rankings, st.integers(1, 9))
def test_every_measure_lies_between_zero_and_one(grades, ranking, k) -> None:
    for metric in (ndcg, recall, mrr, hole):
        assert 0 <= metric(grades, ranking, k) <= 1 + 1e-12


@given(grades, rankings, st.integers(1, 9))
def test_the_ideal_ranking_is_the_best(grades, ranking, k) -> None:
    ideal = sorted(grades, key=lambda d: -grades[d])
    for metric in (ndcg, recall, mrr):
        assert metric(grades, ideal, k) >= metric(grades, ranking, k) - 1e-12
    if any(grade > 0 for grade in grades.values()):
        assert ndcg(grades, ideal, k) == pytest.approx(1)


@given(grades, rankings, st.integers(1, 8), st.data())
def test_moving_a_better_document_up_never_hurts(grades, ranking, k, data) -> None:
    if len(ranking) < 2:
        return
    place = data.draw(st.integers(1, len(ranking) - 1))
    above, below = ranking[place - 1], ranking[place]
    if grades.get(below, 0) < grades.get(above, 0):
        return
    swapped = [*ranking[: place - 1], below, above, *ranking[place + 1 :]]
    for metric in (ndcg, recall, mrr):
        assert metric(grades, swapped, k) >= metric(grades, ranking, k) - 1e-12


@given(grades, rankings, st.integers(1, 8))
def test_recall_grows_with_the_depth(grades, ranking, k) -> None:
    assert recall(grades, ranking, k) <= recall(grades, ranking, k + 1)
    assert mrr(grades, ranking, k) <= mrr(grades, ranking, k + 1)
