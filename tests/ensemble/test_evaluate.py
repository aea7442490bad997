from __future__ import annotations

from collections.abc import Sequence

import pytest

from ensemble.fit.evaluate import (
    OTHER,
    calibration_error,
    coverage,
    route_all,
    router_metrics,
)
from ensemble.fit.training_data import Labelled
from ensemble.router.decision import RouteDecision


def routes(*held: tuple[str | None, float]) -> list[RouteDecision]:
    return [RouteDecision(name, "keywords", probability=p) for name, p in held]


def test_counts_are_those_of_the_table() -> None:
    truth = ["a", "a", "a", "b", OTHER, OTHER]
    sent = ["a", "a", "b", "b", "a", OTHER]
    found = router_metrics(
        truth, sent, routes(*[(s, 0.5) for s in sent]), ("a", "b"), seconds=0.006
    )
    assert found.accuracy == pytest.approx(4 / 6)
    assert found.interval.low < 4 / 6 < found.interval.high
    a, b, other = (found.domains[name] for name in ("a", "b", OTHER))
    assert (a.n, a.routed, a.right) == (3, 3, 2)
    assert (b.precision, b.recall) == (0.5, 1.0)
    assert (other.precision, other.recall) == (1.0, 0.5)
    assert found.confusion == {"a": {"a": 2, "b": 1}, "b": {"b": 1}, OTHER: {"a": 1, OTHER: 1}}
    assert found.microseconds == pytest.approx(1_000)
    assert sum(domain.n for domain in found.domains.values()) == found.n == 6


def test_json_has_what_scripts_read() -> None:
    told = router_metrics(["a"], ["b"], routes(("b", 0.9)), ("a", "b")).as_json()
    keys = {"n", "accuracy", "domains", "coverage_at_95", "microseconds"}
    assert keys <= told.keys()
    assert told["domains"]["a"] == {
        "precision": None,
        "recall": 0.0,
        "recall_interval": [0.0, pytest.approx(0.7935)],
        "false_sends": None,
        "false_sends_interval": [0.0, 1.0],
        "n": 1,
        "routed": 0,
    }


def test_false_sends_are_shares_of_what_belongs_elsewhere() -> None:
    sent = ["a"] * 3 + ["b"] * 7
    found = router_metrics(["a"] * 2 + ["b"] * 8, sent, routes(*[(s, 0.5) for s in sent]), "ab")
    assert found.domains["a"].false_sends == pytest.approx(1 / 8)
    assert found.domains["b"].false_sends == 0.0


@pytest.mark.parametrize(
    ("right", "probabilities", "error"),
    [
        ([True] * 9 + [False], [0.9] * 10, 0.0),
        ([False] * 10, [0.9] * 10, 0.9),
        ([True] * 5 + [False] * 5, [1.0] * 5 + [0.6] * 5, 0.3),
        ([True, False], [0.95, 0.95], 0.45),
        ([], [], 0.0),
    ],
)
def test_calibration_error_is_the_gap_in_each_bin(
    right: list[bool], probabilities: list[float], error: float
) -> None:
    found, interval = calibration_error(right, probabilities)
    assert found == pytest.approx(error)
    assert found in interval


def test_another_right_domain_is_as_right_as_its_own() -> None:
    class Always:
        targets = ("biology", "history")

        def route(self, text: str, options: Sequence[str] = ()) -> RouteDecision:
            return RouteDecision("biology", "keywords", probability=0.9)

    asked = [
        Labelled("q", (), domain, "test", also=also)
        for domain, also in (("science", ("biology",)), ("science", ()), ("history", ("base",)))
    ]
    found = route_all(Always(), asked)
    assert (found.domains["biology"].n, found.domains["biology"].right) == (1, 1)
    assert found.domains["biology"].false_sends == 1.0


@pytest.mark.parametrize(
    ("right", "probabilities", "share"),
    [
        ([], [], 0.0),
        ([True], [0.9], 1.0),
        ([False], [0.9], 0.0),
        ([True] * 19 + [False], [0.9] * 19 + [0.1], 1.0),
        ([True] * 18 + [False] * 2, [0.9] * 18 + [0.1] * 2, 0.9),
        ([False] + [True] * 19, [0.99] + [0.9] * 19, 1.0),
        ([False] * 2 + [True] * 8, [0.5] * 10, 0.0),
        ([True, False], [0.5, 0.5], 0.0),
    ],
)
def test_coverage_at_an_accuracy(
    right: list[bool], probabilities: list[float], share: float
) -> None:
    assert coverage(right, probabilities) == share


def test_the_curve_ends_with_everything() -> None:
    right = [n % 3 > 0 for n in range(200)]
    found = router_metrics(
        ["a"] * 200,
        ["a" if good else "b" for good in right],
        routes(*[("a", n / 200) for n in range(200)]),
        ("a", "b"),
    )
    assert len(found.curve) == 20
    assert found.curve[-1] == (1.0, round(sum(right) / 200, 4))
    assert [c for c, _ in found.curve] == sorted(c for c, _ in found.curve)


def test_after_a_tie_the_curve_goes_on_in_even_steps() -> None:
    chances = [0.9] * 100 + [n / 400 for n in range(100)]
    found = router_metrics(["a"] * 200, ["a"] * 200, routes(*[("a", p) for p in chances]), ("a",))
    assert [c for c, _ in found.curve] == [0.5, *(round(0.5 + n / 20, 2) for n in range(1, 11))]


@pytest.mark.parametrize("n", [1, 2, 3, 7, 19, 21, 39])
def test_a_short_curve_ends_with_everything_too(n: int) -> None:
    found = router_metrics(["a"] * n, ["a"] * n, routes(*[("a", k / n) for k in range(n)]), ("a",))
    assert len(found.curve) == min(n, 20)
    assert found.curve[-1] == (1.0, 1.0)


def test_no_questions_are_no_error() -> None:
    found = router_metrics([], [], [], ("a",))
    assert (found.n, found.accuracy, found.curve) == (0, 0.0, ())
