"""Comparison of two runs: the one object that every view shows."""

from __future__ import annotations

import math
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import StrEnum

from benchmarks.results.comparability import notes_of, warnings_of
from benchmarks.results.flips import Flip, FlipKind, choose_flips, flip_kind
from benchmarks.results.letters import HABIT_HINT
from benchmarks.results.metric_scores import MetricChange, metric_changes
from benchmarks.results.pairing import Pair, PairedRuns, pair_runs, paired_accuracy
from benchmarks.results.route_counts import RouteCounts, count_routes
from benchmarks.results.run_side import RunSide, summarize_side
from benchmarks.runs.store import Run, RunManifest
from domainlift.stats.multiple_testing import holm
from domainlift.stats.paired import MARGIN, Paired
from domainlift.stats.power import LEVEL, minimum_detectable_effect

#: How many changed questions are kept whole; the others are counted.
TOP = 200


class ChangeLabel(StrEnum):
    """The finding of a row; `docs/compare.md` explains the labels."""

    BETTER = "better"
    WORSE = "worse"
    NO_CHANGE = "no change"
    NO_EVIDENCE = "no evidence"
    NO_ANSWERS = "no answers"


@dataclass(frozen=True, kw_only=True)
class DomainChange(Paired):
    """The change of one domain, or of all together, over the questions that both runs answer.

    `p_holm` is `p` adjusted for the number of domains. `detectable` is the smallest true difference
    that so many questions show four times in five, infinite where none is. `clean` leaves out the
    questions that stand in a knowledge base, None where none does. `metrics` are the changes of
    what grades the answers.
    """

    p_holm: float
    detectable: float
    word: ChangeLabel
    sides: tuple[RunSide, RunSide]
    kinds: Mapping[FlipKind, int]
    clean: Paired | None = None
    metrics: Mapping[str, MetricChange] = field(default_factory=dict)


@dataclass(frozen=True)
class Comparison:
    """Two runs on the questions that both ask; the baseline comes first everywhere.

    `domains` stand with the largest loss first. `warnings` name what differs besides the model
    and the treatment, and what is missing; `notes` are what one should know besides.
    `flips` are the most telling questions, those that turned wrong first.
    """

    baseline: RunManifest
    candidate: RunManifest
    domains: Mapping[str, DomainChange]
    overall: DomainChange
    warnings: tuple[str, ...]
    notes: tuple[str, ...]
    flips: tuple[Flip, ...]
    routes: RouteCounts

    @property
    def manifests(self) -> tuple[RunManifest, RunManifest]:
        """Both runs' manifests."""
        return self.baseline, self.candidate

    @property
    def regressed(self) -> list[str]:
        """The domains that are significantly worse, adjusted for their number."""
        return [name for name, row in self.domains.items() if row.word is ChangeLabel.WORSE]

    def named(self, word: ChangeLabel) -> list[str]:
        """The domains with this word."""
        return [name for name, row in self.domains.items() if row.word is word]


def compare_runs(
    baseline: Run,
    candidate: Run,
    joined: PairedRuns | None = None,
    *,
    top: int = TOP,
) -> Comparison:
    """Compare two stored runs question by question; `joined` are the same where they were read.

    Misuse where they are one run, or have no question in common.
    """
    # The folder is what a run is called by; what a manifest says could lead elsewhere.
    manifests = (
        replace(baseline.manifest, run=baseline.folder.name),
        replace(candidate.manifest, run=candidate.folder.name),
    )
    joined = pair_runs(baseline, candidate) if joined is None else joined
    rows, overall = _rows(joined), _word(_change(joined.pairs))
    return Comparison(
        baseline=manifests[0],
        candidate=manifests[1],
        domains=rows,
        overall=overall,
        warnings=(
            *warnings_of(manifests, joined),
            *_habits(overall, manifests),
            *_suspicions(rows, manifests),
        ),
        notes=notes_of(manifests),
        flips=choose_flips(joined.pairs, (baseline, candidate), top),
        routes=count_routes(joined.pairs),
    )


def _rows(joined: PairedRuns) -> dict[str, DomainChange]:
    """The domains, the largest loss first, each with its p adjusted for their number."""
    by_domain: dict[str, list[Pair]] = defaultdict(list)
    for pair in joined.pairs:
        by_domain[pair.question.domain].append(pair)
    rows = {name: _change(by_domain[name]) for name in sorted(by_domain)}
    # A domain without answers tests nothing, and does not make the others' tests harder.
    tested = [name for name, row in rows.items() if row.n]
    adjusted = holm([rows[name].p for name in tested])
    for name, p in zip(tested, adjusted, strict=True):
        rows[name] = _word(replace(rows[name], p_holm=p))
    return dict(sorted(rows.items(), key=lambda item: (not item[1].n, item[1].difference)))


def _change(pairs: Sequence[Pair]) -> DomainChange:
    both = [pair for pair in pairs if pair.change is not None]
    change = paired_accuracy(both)
    clean = [pair for pair in both if not _leaked(pair)]
    turned = (change.gains + change.losses) / change.n if change.n else 0.0
    questions = [pair.question for pair in pairs]
    return DomainChange(
        **vars(change),
        p_holm=change.p,
        detectable=minimum_detectable_effect(math.floor(change.n / change.design), turned),
        word=ChangeLabel.NO_ANSWERS,
        sides=(
            summarize_side(questions, [pair.before for pair in pairs]),
            summarize_side(questions, [pair.after for pair in pairs]),
        ),
        kinds=_kinds(both),
        clean=paired_accuracy(clean) if len(clean) < len(both) else None,
        metrics=metric_changes(
            (pair.before.metrics, pair.after.metrics, pair.question.cluster)
            for pair in pairs
            if pair.before is not None and pair.after is not None
        ),
    )


def _leaked(pair: Pair) -> bool:
    return any(answer is not None and answer.leak for answer in (pair.before, pair.after))


def _kinds(both: Sequence[Pair]) -> dict[FlipKind, int]:
    counts = Counter(map(flip_kind, both))
    return {kind: counts[kind] for kind in FlipKind}


def _word(row: DomainChange) -> DomainChange:
    """Judge a row by its adjusted p first, and by its interval where that shows nothing."""
    if not row.n:
        return row
    if row.p_holm < LEVEL:
        return replace(row, word=ChangeLabel.BETTER if row.difference > 0 else ChangeLabel.WORSE)
    inside = row.interval.low >= -MARGIN and row.interval.high <= MARGIN
    return replace(row, word=ChangeLabel.NO_CHANGE if inside else ChangeLabel.NO_EVIDENCE)


def _habits(row: DomainChange, manifests: tuple[RunManifest, RunManifest]) -> list[str]:
    """Letters that a run says whatever is asked."""
    return [
        f"run `{manifest.run}` {side.letters.habit_text}; {HABIT_HINT}"
        for manifest, side in zip(manifests, row.sides, strict=True)
        if side.letters is not None and side.letters.habit_text
    ]


def _suspicions(
    rows: Mapping[str, DomainChange], manifests: tuple[RunManifest, RunManifest]
) -> list[str]:
    """Scores below chance, and what the questions that leaked are worth."""
    found = []
    for name, row in rows.items():
        for manifest, part in zip(manifests, row.sides, strict=True):
            if part.below_chance:
                found.append(
                    f"`{name}` is significantly below chance in run `{manifest.run}`: that is a "
                    "fault of the harness or the prompt, not of the model's knowledge"
                )
        if row.clean is not None:
            low, high = row.clean.interval.low * 100, row.clean.interval.high * 100
            found.append(
                f"{row.n - row.clean.n} of {row.n} questions of `{name}` stand in the knowledge "
                f"base and prove nothing; without them {row.clean.difference * 100:+.1f} points "
                f"({low:+.1f} to {high:+.1f})"
            )
    return found
