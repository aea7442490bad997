"""Terminal views of a router: its fit, one decision, its metrics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from domainlift.stats.formatting import accuracy, percent
from domainlift.stats.formatting import interval as shown
from domainlift.stats.intervals import Interval
from domainlift.text.display import one_line, printable
from ensemble.fit.evaluate import RouterMetrics
from ensemble.router.decision import RouteDecision
from reports.terminal import print_line, print_table

_NUMBERS = frozenset({"weight", "n", "routed", "precision", "recall", "coverage", "accuracy"})


def show_fit(told: Mapping[str, Any]) -> None:
    """Say what was learned, and how well it did on questions that it was not learned from."""
    print(f"{printable(str(told['file']))}: {told['terms']:,} weighted keywords, ", end="")
    print(f"{told['bytes'] / 1000:.0f} kB with the classifier")
    if "accuracy" in told:
        print(
            f"{told['accuracy']:.3f} of {told['validation']:,} validation questions are well "
            f"routed by a fit without them; threshold {told['threshold']:.2f}"
        )


def show_route(route: RouteDecision, file: str) -> None:
    """Show one decision: where, by whom, how surely, and by which terms."""
    where = route.domain if route.domain is not None else "base model"
    how = f"decided by {route.decided_by}, probability {route.probability:.3f}"
    lines = [f"{where}: {route.reason}", how]
    if route.runner_up is not None:
        lines[1] += f", margin {route.margin:+.3f} over {route.runner_up}"
    lines += [f"nearest of {name}: {one_line(text, 120)}" for name, text in route.nearest]
    for line in [*lines, f"keywords of {file}"]:
        print_line(line)
    against = route.runner_up_matched if route.runner_up_matched != route.matched else ()
    for terms, whose in ((route.matched, ""), (against, f"for the runner-up, {route.runner_up}")):
        if terms and whose:
            print_line(whose)
        if terms:
            rows = [(term, f"{weight:+.3f}") for term, weight in terms]
            print_table(("term", "weight"), rows, right=_NUMBERS)


def show_router_metrics(quality: RouterMetrics, copies: int) -> None:
    """Show accuracy, each domain, the risk by coverage and the confusion."""
    interval = quality.interval
    print_line(
        f"accuracy {quality.accuracy:.3f} ({interval.low:.3f} to {interval.high:.3f}) over "
        f"{quality.n:,} questions, {quality.microseconds:.0f} µs each; "
        f"{quality.coverage_at_95:.1%} of them at an accuracy of 95 %"
    )
    error = quality.calibration_interval
    print_line(
        f"expected calibration error {quality.calibration_error:.3f} "
        f"({error.low:.3f} to {error.high:.3f})"
    )
    if copies:
        print_line(f"{copies} copies of training and validation questions are left out")
    columns = ("n", "routed", "precision", "recall", "95 %", "false sends", "95 % ")
    rows = []
    for name, domain in quality.domains.items():
        held = domain.as_json()
        low, high = (Interval(*held[f"{key}_interval"]) for key in ("recall", "false_sends"))
        cells = (accuracy(domain.precision), accuracy(domain.recall), shown(low))
        false = (percent(domain.false_sends), shown(high))
        rows.append((name, str(domain.n), str(domain.routed), *cells, *false))
    print_table(("domain", *columns), rows, right=columns)
    points = [(f"{coverage:.2f}", accuracy(right)) for coverage, right in _fifths(quality.curve)]
    print_table(("coverage", "accuracy"), points, right=_NUMBERS)
    _show_confusion(quality)


def _fifths(curve: Sequence[tuple[float, float]]) -> Iterator[tuple[float, float]]:
    """The first points at or after each fifth of the coverage, and so always the last one."""
    due = 1
    for coverage, right in curve:
        if coverage * 5 >= due:
            yield coverage, right
            due = int(coverage * 5) + 1


def _show_confusion(quality: RouterMetrics) -> None:
    """Where what belongs to a domain was sent, the most frequent mistakes first."""
    wrong = [
        (number, name, sent)
        for name, row in quality.confusion.items()
        for sent, number in row.items()
        if sent != name
    ]
    rows = [(name, sent, str(number)) for number, name, sent in sorted(wrong, reverse=True)[:12]]
    if rows:
        print_table(("belongs to", "sent to", "n"), rows, right=_NUMBERS)
