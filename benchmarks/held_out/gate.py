"""Promotion gate: whether a candidate is better than its baseline, and nothing got worse.

A treated domain passes where its gain is large enough *and* more than luck; every other domain
must not fall. What neither passes nor fails is inconclusive, and says how many questions it lacks.
`docs/statistics.md` explains it, and `perf/README.md` says how often it errs.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from enum import StrEnum

from domainlift.errors import Misuse
from domainlift.stats.formatting import p_value, points
from domainlift.stats.multiple_testing import holm
from domainlift.stats.paired import Paired, sign_test
from domainlift.stats.power import required_sample_size

#: A domain with a p-value below this is harmed, however many others were looked at: in a large
#: suite the adjusted one alone would let a great loss pass.
HARM = 0.01


class GateVerdict(StrEnum):
    """What the gate says."""

    PROMOTED = "promoted"
    REJECTED = "rejected"
    INCONCLUSIVE = "inconclusive"
    UNHARMED = "unharmed"


@dataclass(frozen=True)
class MinGain:
    """The least gain that counts: `amount` of accuracy, or that share of the baseline's."""

    amount: float
    relative: bool = False

    def over(self, baseline: float) -> float:
        """The same as a difference of accuracies."""
        return self.amount * baseline if self.relative else self.amount

    def __str__(self) -> str:
        return f"{100 * self.amount:g}{'%' if self.relative else 'pt'}"


@dataclass(frozen=True)
class GateCriteria:
    """What a candidate must show; `level` is the error rate, `margin` the loss to be excluded."""

    min_gain: MinGain = MinGain(0.05)
    level: float = 0.05
    margin: float = 0.03


@dataclass(frozen=True)
class DomainEvidence:
    """Paired change of one domain, and counts of answers that became unparsable and parsable."""

    paired: Paired
    newly_unparsed: int = 0
    newly_parsed: int = 0


@dataclass(frozen=True)
class DomainVerdict:
    """What the gate says of one domain, and why; `further` questions would settle it."""

    word: GateVerdict
    why: str
    p: float
    questions_needed: int | None = None


@dataclass(frozen=True)
class Promotion:
    """The verdict; `kept` are the treated domains that passed."""

    word: GateVerdict
    why: str
    domains: Mapping[str, DomainVerdict]
    kept: tuple[str, ...]


def parse_min_gain(text: str) -> MinGain:
    """Read `5pt` (points of accuracy) or `5%` (of the baseline's accuracy); Misuse otherwise."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*(pt|%)\s*", text)
    if found is None:
        hint = "write `5pt` for five points of accuracy, or `5%` for that share of the baseline's"
        raise Misuse(f"`--min-gain {text}` does not say of what", hint)
    return MinGain(float(found[1]) / 100, found[2] == "%")


def apply_gate(
    changes: Mapping[str, DomainEvidence], treated: Collection[str], terms: GateCriteria
) -> Promotion:
    """Judge each domain; those that are not treated are protected.

    p-values are adjusted by Holm's method, within the treated domains and within the others.
    One harmed domain rejects the candidate; else it is promoted where any treated one passes.
    """
    helped = {name: change for name, change in changes.items() if name in treated}
    others = {name: change for name, change in changes.items() if name not in treated}
    # What more questions must reach, however many of the treated domains are left by then.
    level = terms.level / max(1, len(helped))
    judged = {
        **{name: _treated(helped[name], p, terms, level) for name, p in _adjusted(helped)},
        **{name: _protected(others[name], p, terms) for name, p in _adjusted(others)},
    }
    domains = {name: judged[name] for name in sorted(judged)}
    harmed = [name for name in others if domains[name].word is GateVerdict.REJECTED]
    kept = tuple(name for name in sorted(helped) if domains[name].word is GateVerdict.PROMOTED)
    if harmed:
        return Promotion(GateVerdict.REJECTED, f"harmed: {', '.join(harmed)}", domains, ())
    return _verdict(domains, sorted(helped), kept)


def _verdict(
    domains: Mapping[str, DomainVerdict], treated: Collection[str], kept: tuple[str, ...]
) -> Promotion:
    left = [f"{name} {domains[name].word}" for name in treated if name not in kept]
    if kept:
        why = f"better: {', '.join(kept)}" + (f"; {', '.join(left)}" if left else "")
        return Promotion(GateVerdict.PROMOTED, why, domains, kept)
    if any(domains[name].word is GateVerdict.INCONCLUSIVE for name in treated):
        more = [n for name in treated if (n := domains[name].questions_needed) is not None]
        none = "no number of questions is sure to settle it"
        why = f"{max(more)} more questions needed" if more else none
        return Promotion(GateVerdict.INCONCLUSIVE, why, domains, ())
    why = "no domain was treated" if not treated else "no treated domain gained enough"
    return Promotion(GateVerdict.REJECTED, why, domains, ())


def _adjusted(changes: Mapping[str, DomainEvidence]) -> list[tuple[str, float]]:
    p_values = holm([change.paired.p for change in changes.values()])
    return list(zip(changes, p_values, strict=True))


def _treated(change: DomainEvidence, p: float, terms: GateCriteria, level: float) -> DomainVerdict:
    paired, interval = change.paired, change.paired.interval
    least = terms.min_gain.over(paired.baseline if paired.baseline is not None else 0.0)
    gain = f"{points(paired.difference)} points, p {p_value(p)}"
    if _unreadable(change, terms):
        return DomainVerdict(GateVerdict.REJECTED, _faults(change), p)
    if p < terms.level and paired.difference < 0:
        return DomainVerdict(GateVerdict.REJECTED, gain, p)
    if paired.difference >= least and p < terms.level and interval.low > 0:
        return DomainVerdict(GateVerdict.PROMOTED, gain, p)
    if interval.high < least:
        why = f"at most {points(interval.high)} points, and {terms.min_gain} are wanted"
        return DomainVerdict(GateVerdict.REJECTED, why, p)
    if p < terms.level:
        why = f"{gain}: a gain, but {terms.min_gain} are wanted"
        return DomainVerdict(GateVerdict.INCONCLUSIVE, why, p)
    further = _further(paired, max(paired.difference, least), level)
    lacks = f"{further} more questions needed" if further else "no number is sure to settle it"
    return DomainVerdict(GateVerdict.INCONCLUSIVE, f"{gain}: {lacks}", p, further)


def _protected(change: DomainEvidence, p: float, terms: GateCriteria) -> DomainVerdict:
    paired, interval = change.paired, change.paired.interval
    worst = f"{points(interval.low)} points"
    if _unreadable(change, terms):
        return DomainVerdict(GateVerdict.REJECTED, _faults(change), p)
    if paired.difference < 0 and (p < terms.level or paired.p < HARM):
        why = f"{points(paired.difference)} points, p {p_value(paired.p)}"
        return DomainVerdict(GateVerdict.REJECTED, why, p)
    if interval.low >= -terms.margin:
        return DomainVerdict(GateVerdict.UNHARMED, f"at worst {worst}", p)
    # Where the interval is wider than the margin on each side, n does not allow to exclude it.
    if interval.high - interval.low < 2 * terms.margin:
        return DomainVerdict(GateVerdict.REJECTED, f"perhaps {worst}", p)
    why = f"a loss down to {worst} is not excluded by {paired.n} questions"
    return DomainVerdict(GateVerdict.UNHARMED, why, p)


def _unreadable(change: DomainEvidence, terms: GateCriteria) -> bool:
    """Whether more answers cannot be read than luck explains."""
    worse = change.newly_unparsed > change.newly_parsed
    return worse and sign_test(change.newly_unparsed, change.newly_parsed) < terms.level


def _faults(change: DomainEvidence) -> str:
    return f"{change.newly_unparsed} answers more cannot be read, {change.newly_parsed} fewer"


def _further(found: Paired, difference: float, level: float) -> int | None:
    """How many questions more would show this difference, should they turn as often as now.

    None where as many as there are should have shown it, so that no number promises anything.
    """
    if not found.n or difference <= 0:
        return None
    discordance = max((found.gains + found.losses) / found.n, difference)
    needed = required_sample_size(difference, discordance, level)
    if needed is None:
        return None
    further = math.ceil(needed * found.design) - found.n
    return further if further > 0 else None
