"""Verdict on a greatest drop that is allowed: per domain shown, ruled out, or neither."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum

from benchmarks.held_out.choice import not_worse
from benchmarks.results.pairing import Pair, PairedRuns, paired_accuracy
from domainlift.errors import Misuse
from domainlift.stats.multiple_testing import holm
from domainlift.stats.paired import Paired

_ALPHA = 0.05
_POINTS = re.compile(r"(\d+(?:\.\d+)?) ?(?:pt|pts|points)?")


class DropWord(StrEnum):
    """What is known of a domain's drop."""

    DROPPED = "dropped"
    HELD = "held"
    INCONCLUSIVE = "inconclusive"
    NO_ANSWERS = "no answers"


@dataclass(frozen=True)
class DomainDrop:
    """One domain: its change on questions that stand in no knowledge base, and both tests.

    `p_dropped` is of the hypothesis that it lost the margin at most (Holm over the domains),
    `p_held` of the one that it lost the margin or more.
    """

    change: Paired
    p_dropped: float
    p_held: float
    word: DropWord


@dataclass(frozen=True)
class DropCheck:
    """The domains of a comparison under one margin, a share of accuracy."""

    margin: float
    domains: Mapping[str, DomainDrop]
    strict: bool = False

    def named(self, word: DropWord) -> list[str]:
        """The domains of which this is known."""
        return [name for name, each in self.domains.items() if each.word is word]

    @property
    def passed(self) -> bool:
        """Whether no domain is shown to have dropped or has no answers; if strict, all held."""
        failing = {DropWord.DROPPED, DropWord.NO_ANSWERS}
        failing |= {DropWord.INCONCLUSIVE} if self.strict else set()
        return not any(each.word in failing for each in self.domains.values())


def read_points(text: str) -> float:
    """A number of percentage points as a share: `2pt` or `2` is 0.02; Misuse for anything else."""
    found = _POINTS.fullmatch(text.strip())
    share = float(found[1]) / 100 if found else 0.0
    if not 0 < share < 1:
        raise Misuse(f"`{text}` is no number of points between 0 and 100", "two points: `2pt`")
    return share


def check_drops(joined: PairedRuns, margin: float, *, strict: bool = False) -> DropCheck:
    """Test each domain twice, exactly, whether it dropped by more than the margin and by less.

    A drop is shown where p, adjusted by Holm for the number of domains, is at most 0.05. That none
    is there must hold in every domain at once, for which no adjustment is needed. Effective sizes
    where questions share a passage; questions that stand in a knowledge base are left out.
    """
    asked = dict.fromkeys(pair.question.domain for pair in joined.pairs)
    changes = {name: paired_accuracy(_own(joined, name)) for name in sorted(asked)}
    tested = [name for name, change in changes.items() if change.n]
    dropped = dict(zip(tested, holm([_worse(changes[n], margin) for n in tested]), strict=True))
    domains = {}
    for name, change in changes.items():
        p_dropped = dropped.get(name, 1.0)
        p_held = not_worse(change, margin) if change.n else 1.0
        word = DropWord.INCONCLUSIVE if change.n else DropWord.NO_ANSWERS
        if p_dropped <= _ALPHA:
            word = DropWord.DROPPED
        elif p_held <= _ALPHA:
            word = DropWord.HELD
        domains[name] = DomainDrop(change, p_dropped, p_held, word)
    return DropCheck(margin, domains, strict)


def _own(joined: PairedRuns, domain: str) -> list[Pair]:
    return [
        pair
        for pair in joined.pairs
        if pair.question.domain == domain
        and pair.change is not None
        and not any(each is not None and each.leak for each in (pair.before, pair.after))
    ]


def _worse(change: Paired, margin: float) -> float:
    """The p of the hypothesis that the margin at most was lost: a gain of the run before."""
    return not_worse(replace(change, gains=change.losses, losses=change.gains), -margin)
