"""Terminal view of the rows made from a knowledge base, and of those of traces."""

from __future__ import annotations

from domainlift.text.display import printable
from finetune.data.sources.agent_traces import TraceRows
from finetune.data.sources.raft import Contexts
from finetune.synthetic.from_knowledge_base import SyntheticRows
from finetune.synthetic.generate import SyntheticTextbook
from reports.terminal import print_table


def show_synthetic_rows(made: SyntheticRows) -> None:
    """Print the yield of each kind of text, and the counts of rows with passages."""
    if made.book is not None:
        _show_textbook(made.book)
    if made.contexts is not None:
        _show_contexts(made.contexts)


def show_trace_rows(made: TraceRows) -> None:
    """Print what became of the turns of traces, and why some cannot be learned."""
    held = f", {made.held_out_turns:,} held out" if made.held_out_turns else ""
    print(
        f"{made.turns:,} turns of the user: {len(made.rows):,} rows with "
        f"{made.tokens_trained:,} trained tokens{held}"
    )
    for what, counts in (
        ("turns refused", made.refused),
        ("traces left out", made.left_out),
        ("secrets masked", made.masked),
    ):
        if counts:
            told = ", ".join(f"{reason} {count:,}" for reason, count in counts.most_common())
            print(printable(f"{what}: {told}"))


def _show_textbook(book: SyntheticTextbook) -> None:
    rows = []
    for kind, stats in book.yields.items():
        reasons = ", ".join(f"{reason} {count}" for reason, count in stats.rejected.items())
        rows.append((kind, f"{stats.asked:,}", f"{stats.pieces:,}", f"{stats.kept:,}", reasons))
    counts = ("asked", "pieces", "kept")
    print_table(("kind", *counts, "rejected"), rows, right=counts)
    how = "" if book.checked else ", checked by their words alone, not by log-probabilities"
    what = f"{book.passages:,} passages gave {len(book.rows):,} rows{how}"
    print(printable(f"{what}, written by {book.origin['model']} ({book.journal})"))


def _show_contexts(made: Contexts) -> None:
    print(
        f"{len(made.rows):,} rows with passages, {made.alone:,} of them without the right one; "
        f"for {made.skipped:,} questions no passage with the answer was found"
    )
