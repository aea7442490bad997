"""Choice of a domain's treatment on selection questions.

The better one is the default. A cheaper one is taken where it is shown not to be worse by more
than a margin, or where the user prefers cost to accuracy; that no difference is shown is no reason.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from benchmarks.held_out.gate import MinGain
from benchmarks.runs.store import Record
from domainlift.stats.non_inferiority import non_inferiority
from domainlift.stats.paired import Paired, paired, sign_test

BASE = "base"
#: The error rate of either test: not worse by the margin, and worse.
ALPHA = 0.05
#: Records of one domain by treatment, the cheapest first, with the base model.
Answers = Mapping[str, Sequence["Record"]]


class Prefer(StrEnum):
    """What decides where a cheaper treatment may be as good."""

    ACCURACY = "accuracy"
    COST = "cost"


class ChoiceRule(StrEnum):
    """The rule that decided."""

    BEST = "best"
    EQUAL = "equal"
    NOT_WORSE = "not worse"
    GAIN_TOO_SMALL = "gain too small"
    COST = "cost"
    UNTRIED = "untried"


@dataclass(frozen=True)
class ChoiceCriteria:
    """What a choice goes by; a cheaper treatment may lose less than `margin` of accuracy."""

    min_gain: MinGain = field(default_factory=lambda: MinGain(0.05))
    margin: float = 0.02
    prefer: Prefer = Prefer.ACCURACY


@dataclass(frozen=True)
class Choice:
    """A treatment and the rule that chose it over the treatment `against`.

    Where the non-inferiority test decided, `margin` and `p` are what it was made with and found.
    """

    treatment: str
    rule: ChoiceRule
    against: str = ""
    margin: float | None = None
    p: float | None = None


def choose_treatment(
    answers: Answers, clusters: Mapping[str, str], criteria: ChoiceCriteria
) -> Choice:
    """Choose on one domain's answers; `clusters` name what questions share, by question.

    Of the base model and the treatments that gain enough over it the most accurate is the best,
    the cheapest of equal ones.
    """
    if set(answers) <= {BASE}:
        return Choice(BASE, ChoiceRule.UNTRIED)
    if criteria.prefer is Prefer.COST:
        return _cheapest_not_shown_worse(answers, clusters)
    enough = [name for name in answers if name == BASE or _gains(answers, name, clusters, criteria)]
    best = _most_accurate(answers, enough)
    other = _most_accurate(answers, [name for name in answers if name != best])
    if _accuracy(answers[best]) < _accuracy(answers[other]):
        return Choice(best, ChoiceRule.GAIN_TOO_SMALL, other)
    for name in enough[: enough.index(best)]:
        change = compare_answers(answers[best], answers[name], clusters)
        p = not_worse(change, criteria.margin)
        if p < ALPHA:
            return Choice(name, ChoiceRule.NOT_WORSE, best, criteria.margin, p)
    equal = _accuracy(answers[best]) == _accuracy(answers[other])
    return Choice(best, ChoiceRule.EQUAL if equal else ChoiceRule.BEST, other)


def not_worse(change: Paired, margin: float) -> float:
    """The p of the non-inferiority test of the second run; effective sizes where clustered."""
    size, design = int(change.n / change.design), change.design
    gains, losses = int(change.gains / design), -int(-change.losses // design)
    return non_inferiority(gains, min(losses, size - gains), size, margin)


def compare_answers(
    before: Sequence[Record], after: Sequence[Record], clusters: Mapping[str, str]
) -> Paired:
    """The change of accuracy over the questions that both answered."""
    there = {record.id: record.correct for record in before if record.correct is not None}
    both = [record for record in after if record.correct is not None and record.id in there]
    return paired(
        [there[record.id] for record in both],
        [bool(record.correct) for record in both],
        [clusters.get(record.id, "") for record in both],
    )


def _gains(
    answers: Answers, name: str, clusters: Mapping[str, str], criteria: ChoiceCriteria
) -> bool:
    change = compare_answers(answers[BASE], answers[name], clusters)
    least = criteria.min_gain.over(change.baseline if change.baseline is not None else 0.0)
    return change.n > 0 and change.difference >= least


def _cheapest_not_shown_worse(answers: Answers, clusters: Mapping[str, str]) -> Choice:
    """The first that is not shown to be worse than any other, by the exact one-sided sign test.

    The best is not enough to compare with: of two that are as good, one may turn so many answers
    both ways that it shows nothing.
    """
    best = _most_accurate(answers, list(answers))
    good = (
        name
        for name, records in answers.items()
        if not any(
            _is_worse(compare_answers(other, records, clusters)) for other in answers.values()
        )
    )
    # None is, where treatments were answered on different questions.
    return Choice(next(good, best), ChoiceRule.COST, best)


def _is_worse(change: Paired) -> bool:
    return sign_test(change.losses, change.gains) < ALPHA


def _most_accurate(answers: Answers, names: Sequence[str]) -> str:
    return max(names, key=lambda name: _accuracy(answers[name]))


def _accuracy(records: Sequence[Record]) -> float:
    rights = [record.correct for record in records if record.correct is not None]
    return sum(rights) / len(rights) if rights else 0.0
