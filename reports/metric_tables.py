"""Tables of metrics that grade answers: of a run, and of two runs."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TypeVar

from benchmarks.results.comparison import Comparison
from benchmarks.results.domain_scores import DomainScore
from domainlift.stats.formatting import p_value
from domainlift.stats.intervals import Interval
from reports.sanitize import line
from reports.terminal import print_line, print_table

_Value = TypeVar("_Value")
_SCORES = ("metric", "domain", "n", "value", "95 % interval")
#: The columns of a table of changes.
METRIC_CHANGES = ("metric", "domain", "n", "baseline", "candidate", "Δ", "95 % interval", "p")


def show_metrics(scores: Mapping[str, DomainScore]) -> None:
    """Print the metrics of each domain, and how they are measured; nothing where there are none."""
    rows = [
        (metric, line(domain, 60), f"{own.n:,}", _figure(own.value), _interval(own.interval))
        for metric, domain, own in _by_metric({d: score.metrics for d, score in scores.items()})
    ]
    if rows:
        print_table(_SCORES, rows, right={*_SCORES} - {"metric", "domain"})
    told = {n: m.signature for s in scores.values() for n, m in s.metrics.items() if m.signature}
    for name, signature in told.items():
        print_line(f"{name}: {signature}")


def show_metric_changes(comparison: Comparison) -> None:
    """Print the changes of metrics of each domain; nothing where there are none."""
    rows = metric_change_rows(comparison)
    if rows:
        print_table(METRIC_CHANGES, rows, right={*METRIC_CHANGES} - {"metric", "domain"})


def metric_change_rows(comparison: Comparison) -> list[tuple[str, ...]]:
    """The cells of `METRIC_CHANGES` for each metric and domain."""
    rows = {**comparison.domains, "overall": comparison.overall}
    return [
        (
            f"{metric} (lower is better)" if own.lower_is_better else metric,
            *(line(domain, 60), f"{own.n:,}", _figure(own.baseline), _figure(own.candidate)),
            *(_figure(own.delta, "+"), _interval(own.interval), p_value(own.p)),
        )
        for metric, domain, own in _by_metric({d: row.metrics for d, row in rows.items()})
    ]


def _by_metric(rows: Mapping[str, Mapping[str, _Value]]) -> Iterator[tuple[str, str, _Value]]:
    """Metric, domain and value; all together only where several domains have metrics."""
    single = sum(map(bool, rows.values())) <= 2
    for metric in dict.fromkeys(name for own in rows.values() for name in own):
        for domain, own in rows.items():
            if metric in own and not (domain == "overall" and single):
                yield metric, domain, own[metric]


def _figure(value: float, sign: str = "") -> str:
    return f"{value:{sign}.3f}" if abs(value) < 1e6 else f"{value:{sign}.3g}"


def _interval(interval: Interval | None) -> str:
    return "-" if interval is None else f"{_figure(interval.low)} to {_figure(interval.high)}"
