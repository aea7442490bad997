"""Values of metrics over questions, and their paired change between two runs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.scoring.metric_registry import METRICS
from domainlift.stats.bootstrap import (
    ValueOfSums,
    bootstrap_change,
    bootstrap_interval,
    column_sums,
)
from domainlift.stats.intervals import Interval

#: Statistics of one answer by metric.
Graded = Mapping[str, Sequence[float]]


@dataclass(frozen=True)
class MetricScore:
    """A metric over `n` answers; `interval` is the 95 % one, None of a single cluster.

    `signature` says how it is measured, "" where there is only one way.
    """

    value: float
    interval: Interval | None
    n: int
    signature: str = ""


@dataclass(frozen=True)
class MetricChange:
    """The paired change of a metric over `n` questions; `p` is the bootstrap's, of no change."""

    baseline: float
    candidate: float
    delta: float
    interval: Interval | None
    p: float
    n: int
    lower_is_better: bool = False


def score_metrics(
    answers: Iterable[tuple[Graded, str]], versions: Mapping[str, str]
) -> dict[str, MetricScore]:
    """The value of each metric over answers, given with their clusters.

    `versions` are the run's, where the signatures stand.
    """
    rows: dict[str, list[tuple[float, ...]]] = defaultdict(list)
    clusters: dict[str, list[str]] = defaultdict(list)
    for graded, cluster in answers:
        for name in graded.keys() & METRICS.keys():
            rows[name].append((1.0, *graded[name]))
            clusters[name].append(cluster)
    scores = {}
    for name in (name for name in METRICS if name in rows):
        value, own = METRICS[name].value, rows[name]
        interval = bootstrap_interval(own, clusters[name], value)
        signature = versions.get(name, "")
        scores[name] = MetricScore(value(column_sums(own)), interval, len(own), signature)
    return scores


def metric_changes(pairs: Iterable[tuple[Graded, Graded, str]]) -> dict[str, MetricChange]:
    """The change of each metric that both answers of a pair have; each comes with its cluster."""
    graded = [pair for pair in pairs if pair[0] and pair[1]]
    changes = {}
    for name in METRICS:
        own = [(b[name], a[name], cluster) for b, a, cluster in graded if name in b and name in a]
        if own:
            changes[name] = _change(METRICS[name].value, own, METRICS[name].lower_is_better)
    return changes


def _change(
    value: ValueOfSums, pairs: Sequence[tuple[Sequence[float], Sequence[float], str]], lower: bool
) -> MetricChange:
    before = [(1.0, *old) for old, _, _ in pairs]
    after = [(1.0, *new) for _, new, _ in pairs]
    interval, p = bootstrap_change(before, after, [cluster for *_, cluster in pairs], value)
    old, new = value(column_sums(before)), value(column_sums(after))
    return MetricChange(old, new, new - old, interval, p, len(pairs), lower)
