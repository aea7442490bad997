from __future__ import annotations

import re

import pytest

from ensemble.fit.evaluate import router_metrics
from ensemble.router.decision import RouteDecision
from reports.router import show_router_metrics


@pytest.mark.parametrize(
    ("chances", "shown"),
    [
        ([n / 100 for n in range(100)], ["0.20", "0.40", "0.60", "0.80", "1.00"]),
        ([0.9] * 50 + [n / 100 for n in range(50)], ["0.50", "0.60", "0.80", "1.00"]),
        ([0.5] * 10, ["1.00"]),
        ([0.1, 0.2], ["0.50", "1.00"]),
    ],
)
def test_the_curve_is_shown_by_fifths_and_to_its_end(
    chances: list[float], shown: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    routes = [RouteDecision("a", "keywords", probability=p) for p in chances]
    show_router_metrics(
        router_metrics(["a"] * len(chances), ["a"] * len(chances), routes, ("a",)), 0
    )
    table = capsys.readouterr().out.split("coverage  accuracy")[1]
    assert re.findall(r"^ +(\d\.\d\d) ", table, re.MULTILINE) == shown
