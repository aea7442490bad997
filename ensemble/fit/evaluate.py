"""Evaluation of a router: accuracy, precision, recall, calibration, confusion, time."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from domainlift.stats.intervals import Interval, wilson
from ensemble.fit.fit import Labelled
from ensemble.router.decision import RouteDecision

#: What stands for every domain that is no target.
OTHER = "other"
AIM = 0.95
_POINTS = 20
_BINS, _DRAWS = 10, 200


class CountedRoutes(Protocol):
    """A router that can be evaluated."""

    targets: tuple[str, ...]

    def route(self, text: str, options: Sequence[str] = ()) -> RouteDecision:
        """The domain of a question."""


@dataclass(frozen=True)
class DomainRouting:
    """Routing to one target, or to all others: `n` of `of` questions belong to it.

    `routed` were sent there. Precision is the share of those that belongs there, recall the share
    of what belongs there that was sent, false sends the share of what belongs elsewhere that was
    sent; None where there is nothing to divide by.
    """

    n: int
    routed: int
    right: int
    of: int = 0

    @property
    def precision(self) -> float | None:
        """None where nothing was sent there."""
        return self.right / self.routed if self.routed else None

    @property
    def recall(self) -> float | None:
        """None where nothing belongs there."""
        return self.right / self.n if self.n else None

    @property
    def false_sends(self) -> float | None:
        """None where everything belongs there."""
        return (self.routed - self.right) / (self.of - self.n) if self.of > self.n else None

    def as_json(self) -> dict[str, Any]:
        """For `--json`, with the 95 % intervals of Wilson."""
        wrong, elsewhere = self.routed - self.right, self.of - self.n
        return {
            "precision": self.precision,
            "recall": self.recall,
            "recall_interval": _pair(wilson(self.right, self.n)),
            "false_sends": self.false_sends,
            "false_sends_interval": _pair(wilson(wrong, elsewhere)),
            "n": self.n,
            "routed": self.routed,
        }


@dataclass(frozen=True)
class RouterMetrics:
    """Metrics over `n` questions.

    `curve` holds (coverage, accuracy): the accuracy over the share of questions whose routes are
    most probable. `confusion` is label -> route -> number, `decided_by` counts the
    stages that decided, `microseconds` is the time per question. `calibration_error` is the
    expected calibration error of the stated probabilities, in ten bins (Guo et al. 2017), with the
    interval of a bootstrap over questions.
    """

    n: int
    accuracy: float
    interval: Interval
    domains: Mapping[str, DomainRouting]
    coverage_at_95: float
    curve: tuple[tuple[float, float], ...]
    confusion: Mapping[str, Mapping[str, int]]
    decided_by: Mapping[str, int]
    microseconds: float
    calibration_error: float
    calibration_interval: Interval

    def as_json(self) -> dict[str, Any]:
        """For `--json`."""
        return {
            "n": self.n,
            "accuracy": round(self.accuracy, 4),
            "interval": _pair(self.interval),
            "calibration_error": round(self.calibration_error, 4),
            "calibration_interval": _pair(self.calibration_interval),
            "domains": {name: domain.as_json() for name, domain in self.domains.items()},
            "coverage_at_95": self.coverage_at_95,
            "microseconds": round(self.microseconds, 1),
            "curve": [list(point) for point in self.curve],
            "confusion": {name: dict(row) for name, row in self.confusion.items()},
            "rungs": dict(self.decided_by),
        }


def route_all(
    router: CountedRoutes, rows: Sequence[Labelled], *, options: bool = True
) -> RouterMetrics:
    """Route labelled questions, with or without their options, and count.

    What belongs to no target is right where it goes to the base model, and a domain that is right
    for a question, too, is as right as its own.
    """
    asked = [(row.text, row.options if options else ()) for row in rows]
    start = time.perf_counter()
    routes = [router.route(text, choices) for text, choices in asked]
    seconds = time.perf_counter() - start
    sent = [route.domain if route.domain is not None else OTHER for route in routes]
    truth = [_truth(row, where, router.targets) for row, where in zip(rows, sent, strict=True)]
    return router_metrics(truth, sent, routes, router.targets, seconds)


def _truth(row: Labelled, sent: str, targets: Sequence[str]) -> str:
    right = [name if name in targets else OTHER for name in (row.domain, *row.also)]
    return sent if sent in right else right[0]


def router_metrics(
    truth: Sequence[str],
    sent: Sequence[str],
    routes: Sequence[RouteDecision],
    targets: Sequence[str],
    seconds: float = 0.0,
) -> RouterMetrics:
    """Compare where questions belong with where they were sent."""
    right = [a == b for a, b in zip(truth, sent, strict=True)]
    pairs = Counter(zip(truth, sent, strict=True))
    names = [*targets, *([OTHER] if OTHER in truth or OTHER in sent else [])]
    confusion = {a: {b: pairs[a, b] for b in names if pairs[a, b]} for a in names}
    belong, went = Counter(truth), Counter(sent)
    probabilities = [route.probability for route in routes]
    error, interval = calibration_error(right, probabilities)
    return RouterMetrics(
        n=len(right),
        accuracy=sum(right) / len(right) if right else 0.0,
        interval=wilson(sum(right), len(right)),
        domains={n: DomainRouting(belong[n], went[n], pairs[n, n], len(right)) for n in names},
        coverage_at_95=coverage(right, probabilities),
        curve=_curve(right, probabilities),
        confusion={name: row for name, row in confusion.items() if row},
        decided_by=Counter(route.decided_by for route in routes),
        microseconds=seconds / len(right) * 1e6 if right else 0.0,
        calibration_error=error,
        calibration_interval=interval,
    )


def calibration_error(
    right: Sequence[bool], probabilities: Sequence[float]
) -> tuple[float, Interval]:
    """Expected calibration error in ten bins of one width, and its 95 % bootstrap interval."""
    if not right:
        return 0.0, Interval(0.0, 1.0)
    bins = np.minimum((np.asarray(probabilities) * _BINS).astype(int), _BINS - 1)
    gaps = np.asarray(right, dtype=float) - np.asarray(probabilities)

    def error(chosen: Any) -> float:
        return float(np.abs(np.bincount(bins[chosen], gaps[chosen], _BINS)).sum() / len(gaps))

    draws = np.random.default_rng(0).integers(len(gaps), size=(_DRAWS, len(gaps)))
    low, high = np.quantile([error(draw) for draw in draws], (0.025, 0.975))
    found = error(np.arange(len(gaps)))
    return found, Interval(min(found, float(low)), max(found, float(high)))


def _pair(interval: Interval) -> list[float]:
    return [round(end, 4) for end in interval]


def coverage(right: Sequence[bool], probabilities: Sequence[float], aim: float = AIM) -> float:
    """The largest share of questions, the most probable routes first, at least `aim` of them right.

    Routes of one probability come in together: nothing could tell them apart.
    """
    share = 0.0
    for size, good in _steps(right, probabilities):
        if good >= aim * size:
            share = size / len(right)
    return round(share, 4)


def _curve(
    right: Sequence[bool], probabilities: Sequence[float]
) -> tuple[tuple[float, float], ...]:
    """At most 20 points, each the first at or after an even share of the questions."""
    points: list[tuple[float, float]] = []
    due = 1
    for size, good in _steps(right, probabilities):
        if size * _POINTS >= due * len(right):
            points.append((round(size / len(right), 4), round(good / size, 4)))
            due = size * _POINTS // len(right) + 1
    return tuple(points)


def _steps(right: Sequence[bool], probabilities: Sequence[float]) -> list[tuple[int, int]]:
    """Cumulated counts of questions and of right ones, down to each probability."""
    ordered = sorted(zip(probabilities, right, strict=True), key=lambda pair: -pair[0])
    steps: list[tuple[int, int]] = []
    good = 0
    for size, (probability, well) in enumerate(ordered, 1):
        good += well
        if size == len(ordered) or ordered[size][0] != probability:
            steps.append((size, good))
    return steps
