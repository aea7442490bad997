"""Views of a check for drops: Markdown for a pull request, and JSON."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from benchmarks.results.comparison import Comparison
from benchmarks.results.max_drop import DomainDrop, DropCheck, DropWord
from domainlift.stats.formatting import p_value, points, points_interval
from reports.compare_json import as_json
from reports.compare_markdown import markdown_text, render_markdown

_SIGNS = {
    DropWord.DROPPED: "✗",
    DropWord.HELD: "✓",
    DropWord.INCONCLUSIVE: "○",
    DropWord.NO_ANSWERS: "∅",
}
_HEADER = (
    "| domain | n | Δ points | 95 % interval | p dropped | p held | |\n"
    "|---|--:|--:|--:|--:|--:|---|"
)


def render_check(check: DropCheck, comparison: Comparison) -> str:
    """The verdict, a row per domain, and the comparison below."""
    margin = points(check.margin, sign=False)
    rows = "\n".join([_HEADER, *_rows(check)])
    told = (
        f"A drop of more than {margin} points is shown where “p dropped” is at most 0.05 (exact, "
        "Holm over domains), and ruled out where “p held” is; neither is inconclusive."
    )
    verdict = "passed" if check.passed else "failed"
    head = f"## {'✓' if check.passed else '✗'} Check {verdict}: {_sentence(check, margin)}"
    return "\n\n".join([head, rows, f"<sub>{told}</sub>", render_markdown(comparison)])


def check_json(check: DropCheck, comparison: Comparison) -> dict[str, Any]:
    """The object that `bench check --json` prints: that of `bench compare`, and the verdict."""
    drops = {name: _json(each) for name, each in check.domains.items()}
    told = {"max_drop": check.margin, "strict": check.strict, "drops": drops}
    return {**as_json(comparison), "passed": check.passed, **told}


def _sentence(check: DropCheck, margin: str) -> str:
    parts = []
    for word, what in (
        (DropWord.DROPPED, f"dropped by more than {margin} points"),
        (DropWord.NO_ANSWERS, "no answers"),
        (DropWord.INCONCLUSIVE, "inconclusive"),
        (DropWord.HELD, "held"),
    ):
        if names := check.named(word):
            shown = ", ".join(markdown_text(name, 80) for name in names[:8])
            more = f" and {len(names) - 8} more" if len(names) > 8 else ""
            parts.append(f"{what}: {shown}{more}")
    return "; ".join(parts)


def _rows(check: DropCheck) -> Iterator[str]:
    for name, each in check.domains.items():
        change = each.change
        cells = (
            markdown_text(name, 80),
            f"{change.n:,}",
            points(change.difference) if change.n else "–",
            points_interval(change.interval) if change.n else "–",
            markdown_text(p_value(each.p_dropped)),
            markdown_text(p_value(each.p_held)),
            f"{_SIGNS[each.word]} {each.word}",
        )
        yield f"| {' | '.join(cells)} |"


def _json(each: DomainDrop) -> dict[str, Any]:
    change = each.change.as_json()
    told = {key: change[key] for key in ("n", "delta", "interval")}
    return {"word": each.word.value, **told, "p_dropped": each.p_dropped, "p_held": each.p_held}
