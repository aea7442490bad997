"""Terminal view of what a reply comes from: route, adapter, passages with their sources."""

from __future__ import annotations

from domainlift.text.display import one_line
from domainlift.types import Treatment
from reports.terminal import print_line


def show_origin(treatment: Treatment, *, most: int | None = 200) -> None:
    """Print route, keywords, adapter and passages, each up to `most` characters; 0 for none."""
    matched = f": {', '.join(treatment.matched)}" if treatment.matched else ""
    by = f" by {treatment.decided_by}" if treatment.decided_by else ""
    lines = [f"route: {treatment.route or 'base model'}{by}{matched}"]
    if treatment.adapter is not None:
        lines.append(f"adapter: {treatment.adapter}")
    elif treatment.reason.startswith("base"):
        lines.append(treatment.reason)
    for number, passage in enumerate(treatment.passages if most != 0 else (), 1):
        score = "" if passage.score is None else f", score {passage.score:.3f}"
        lines.append(f"[{number}] {passage.source} ({passage.place}{score})")
        lines.append(f"    {one_line(passage.text, most)}")
    for line in lines:
        print_line(line, "dim", soft_wrap=True)
