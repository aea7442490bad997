"""The bootstrap against what is known of its intervals."""

import random

import pytest

from domainlift.stats.bootstrap import bootstrap_change, bootstrap_interval, column_sums


def mean(sums):
    return sums[1] / sums[0]


def rows(values):
    return [(1.0, value) for value in values]


def test_sums_are_of_columns():
    assert column_sums([(1, 0.1), (1, 0.2)]) == pytest.approx([2, 0.3])


def test_a_single_cluster_tells_of_no_spread():
    assert bootstrap_interval(rows([1, 2, 3]), ["a"] * 3, mean) is None
    assert bootstrap_interval(rows([1]), [""], mean) is None
    assert bootstrap_interval([], [], mean) is None
    assert bootstrap_change([], [], [], mean) == (None, 1.0)


def test_the_interval_is_about_two_standard_errors_wide():
    random_numbers = random.Random(1)
    values = [random_numbers.gauss(0, 1) for _ in range(400)]
    interval = bootstrap_interval(rows(values), [""] * 400, mean)
    assert interval.high - interval.low == pytest.approx(2 * 1.96 / 20, rel=0.15)
    assert sum(values) / 400 in interval


def test_clusters_are_drawn_whole():
    random_numbers = random.Random(1)
    shared = [value for _ in range(40) for value in [random_numbers.gauss(0, 1)] * 10]
    names = [str(n // 10) for n in range(400)]
    alone, whole = (bootstrap_interval(rows(shared), c, mean) for c in ([""] * 400, names))
    assert (whole.high - whole.low) / (alone.high - alone.low) == pytest.approx(10**0.5, rel=0.2)


def test_it_covers_the_truth_about_as_often_as_it_says():
    random_numbers = random.Random(2)
    hits = 0
    for _ in range(60):
        values = [random_numbers.expovariate(1) for _ in range(60)]
        hits += 1.0 in bootstrap_interval(rows(values), [""] * 60, mean)
    assert hits >= 50


def test_changes_are_paired():
    random_numbers = random.Random(3)
    before = [random_numbers.gauss(0, 5) for _ in range(200)]
    after = [value + random_numbers.gauss(0.2, 0.5) for value in before]
    interval, p = bootstrap_change(rows(before), rows(after), [""] * 200, mean)
    assert interval.low > 0
    assert p < 0.01
    same, p = bootstrap_change(rows(before), rows(before), [""] * 200, mean)
    assert (same.low, same.high, p) == (0, 0, 1.0)
