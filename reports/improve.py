"""What `bench improve` has to say: for the terminal, and as sections of the report."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING

from domainlift.stats.formatting import accuracy, difference, interval, p_value
from domainlift.text.display import printable
from reports.terminal import console, table

if TYPE_CHECKING:
    from benchmarks.results.improve_result import (
        HeldOutResult,
        ImproveResult,
        TreatmentScore,
        TriageResult,
    )
    from domainlift.stats.paired import Paired
    from reports.compare_html import ReportSection

_STANDING = ("domain", "n", "accuracy", "95 % interval", "word")
_WORDS = frozenset({"word", "verdict", "chosen"})
_TRIAGE = ("domain", "n", "right", "noise", "passages mend", "other passage", "nothing", "broken")
_CEILINGS = ("at most rag", "at most lora")
_ARMS = ("base", "lora", "rag", "rag+lora")
_HELD_OUT = ("domain", "n", "base", "ensemble", "change", "95 % interval", "p", "verdict")
_NO_WEAK = "no domain is weak"
_WAYS = ("way", "n", "accuracy", "tokens a question")


class ImproveView:
    """Prints each table as soon as it is known, and the verdict last."""

    def __init__(self) -> None:
        self._told: set[str] = set()

    def tell(self, done: ImproveResult) -> None:
        """Print the tables that are new."""
        from rich.text import Text

        out = console()
        for title, columns, rows in _tables(done):
            if title in self._told:
                continue
            self._told.add(title)
            out.print(Text(printable(title), style="bold"))
            grid = table(*columns, right=frozenset(columns[1:]) - _WORDS)
            for row in rows:
                grid.add_row(*(Text(printable(cell)) for cell in row))
            out.print(grid)
            out.print()

    def close(self, done: ImproveResult) -> None:
        """Print what is left, and the verdict."""
        from rich.text import Text

        self.tell(done)
        for line in _closing(done):
            console().print(Text(printable(line)))


def sections(done: ImproveResult) -> list[ReportSection]:
    """The same tables for the page of a comparison, and what was said of them."""
    from reports.compare_html import ReportSection

    made = [ReportSection(title, columns, rows) for title, columns, rows in _tables(done)]
    return [*made, ReportSection("Verdict", text="\n".join(_closing(done)))]


Row = tuple[str, ...]
Table = tuple[str, tuple[str, ...], list[Row]]


def _tables(done: ImproveResult) -> Iterator[Table]:
    yield "Where the model stands (selection questions)", _STANDING, [*_standing(done)]
    if done.triage:
        rows = [_triage(name, found) for name, found in done.triage.items()]
        yield "What could be mended (selection questions)", _TRIAGE + _CEILINGS, rows
    if done.treatments:
        rows = [_arms(name, done.treatments[name], chosen) for name, chosen in done.chosen.items()]
        yield (
            "What each treatment does (selection questions; tokens a question)",
            ("domain", *_ARMS, "chosen"),
            rows,
        )
    if done.proof is not None:
        proof = done.proof
        yield "The ensemble (held-out questions)", _HELD_OUT, [*_held_out(proof)]
        ways = [_way(name, found) for name, found in proof.controls.items()]
        yield "Other ways to send the same questions (held-out questions)", _WAYS, ways


def _standing(done: ImproveResult) -> Iterator[Row]:
    for domain, score in done.diagnosis.base.domains.items():
        word = done.diagnosis.words[domain]
        yield domain, str(score.n), accuracy(score.accuracy), interval(score.interval), word


def _triage(name: str, found: TriageResult) -> Row:
    counts = (
        found.n,
        found.hits,
        found.noise,
        found.passages,
        found.retrieval,
        found.unrecoverable,
    )
    most = found.ceilings
    return (
        name,
        *map(str, counts),
        str(found.broken),
        f"+{100 * most['rag']:.0f} points",
        f"+{100 * most['lora']:.0f} points",
    )


def _arms(name: str, arms: Mapping[str, TreatmentScore], chosen: str) -> Row:
    return (name, *(_cost(arms.get(each)) for each in _ARMS), chosen)


def _held_out(proof: HeldOutResult) -> Iterator[Row]:
    for domain, change in proof.change.items():
        judged = proof.promotion.domains.get(domain)
        if domain:
            p, word = ("-", "-") if judged is None else (p_value(judged.p), judged.word.value)
            yield domain, *_changed(change), p, word
    if "" in proof.change:
        yield "overall", *_changed(proof.change[""]), p_value(proof.change[""].p), ""


def _changed(change: Paired) -> Row:
    """All over the questions that both answered."""
    return (
        str(change.n),
        accuracy(change.baseline),
        accuracy(change.candidate),
        difference(change.difference),
        interval(change.interval, sign=True),
    )


def _way(name: str, found: TreatmentScore) -> Row:
    return name, str(found.n), accuracy(found.accuracy), f"{found.tokens:.0f}"


def _closing(done: ImproveResult) -> Iterator[str]:
    noise = done.diagnosis.noise
    yield f"asked the same again, {noise.flips} of {noise.n} answers turned"
    for note in done.notes:
        yield f"note: {note}"
    if done.proof is None:
        weak = ", ".join(done.triage)
        why = f"no treatment of {weak} is better than the base model" if weak else _NO_WEAK
        yield f"nothing is proposed: {why}"
        return
    proof = done.proof
    yield f"{proof.routed:.1%} of the questions were sent where their label would have sent them"
    if proof.leaked:
        yield f"{proof.leaked} held-out questions stand in the knowledge bases and do not count"
    if proof.due:
        yield "these held-out questions were looked at too often: fresh ones are due"
    yield f"verdict: {proof.promotion.word} ({proof.promotion.why}); look {proof.look}"
    if done.plan is not None:
        yield f"plan: {done.plan}"


def _cost(found: TreatmentScore | None) -> str:
    return "-" if found is None else f"{accuracy(found.accuracy)} ({found.tokens:.0f})"
