"""Letters of a run: how often each was chosen, how often it was right, and whether that differs.

A model with a habit of form says one letter whatever is asked; its accuracy then says little of
what it knows.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from string import ascii_uppercase
from typing import NamedTuple

from benchmarks.runs.store import Record, RunManifest
from domainlift.stats.binomial import SUSPICIOUS
from domainlift.stats.paired import paired_change
from domainlift.types import Question
from engines.base import Mode

#: A letter that is chosen so much more often than it is right, as a share, is a habit.
EXCESS = 0.10
HABIT_HINT = "this habit of form hides what it knows: try `--scoring auto`"
_SHOWN = frozenset({Mode.LETTER, Mode.GENERATE, "letter-debiased"})


@dataclass(frozen=True)
class LetterCounts:
    """How often each letter was chosen and was right, over the questions with a readable choice.

    `p` is of the test that both are spread alike (`benchmarks/results/letters.py`).
    """

    chosen: Mapping[str, int]
    gold: Mapping[str, int]
    p: float

    @property
    def n(self) -> int:
        """The number of questions."""
        return sum(self.chosen.values())

    @property
    def habit(self) -> str | None:
        """The letter that is chosen much more often than it is right; None where none is."""
        letter = max(self.chosen, key=lambda k: self.chosen[k] - self.gold[k])
        excess = (self.chosen[letter] - self.gold[letter]) / self.n
        return letter if self.p < SUSPICIOUS and excess >= EXCESS else None

    @property
    def habit_text(self) -> str:
        """The habit in words; "" where there is none."""
        letter = self.habit
        if letter is None:
            return ""
        return (
            f"says {letter} to {self.chosen[letter] / self.n:.0%} of {self.n:,} questions, right "
            f"is {letter} in {self.gold[letter] / self.n:.0%}"
        ).replace("%", " %")


def lettered_tasks(manifest: RunManifest) -> frozenset[str]:
    """The tasks of a run whose prompts show the options by letter."""
    ways: Mapping[str, Mapping[str, object]] = manifest.settings.get("tasks", {})
    return frozenset(task for task, way in ways.items() if way.get("scoring") in _SHOWN)


def count_record_letters(
    records: Iterable[Record], questions: Mapping[str, Question], lettered: Collection[str]
) -> LetterCounts | None:
    """Count the letters of these records of lettered tasks; None where none names an option."""
    asked = ((r.chosen, questions[r.id]) for r in records if r.task in lettered)
    return count_letters(
        LetterChoice(chosen, q.answer, len(q.options), q.cluster)
        for chosen, q in asked
        if isinstance(chosen, int) and isinstance(q.answer, int)
    )


class LetterChoice(NamedTuple):
    """The option that was chosen for a question and the right one, by index."""

    chosen: int
    gold: int
    options: int
    cluster: str


def count_letters(choices: Iterable[LetterChoice]) -> LetterCounts | None:
    """Count chosen and right letters, and test whether they are spread alike; None of nothing."""
    found = [each for each in choices if max(each.chosen, each.gold) < each.options]
    if not found:
        return None
    chosen, gold, options, clusters = zip(*found, strict=True)
    letters = ascii_uppercase[: max(options)]
    return LetterCounts(
        {letter: chosen.count(k) for k, letter in enumerate(letters)},
        {letter: gold.count(k) for k, letter in enumerate(letters)},
        marginal_homogeneity(chosen, gold, clusters, len(letters)),
    )


def marginal_homogeneity(
    first: Sequence[int], second: Sequence[int], clusters: Sequence[str], categories: int
) -> float:
    """Return the p-value of equal margins, where both labels are below `categories`.

    The hypothesis of Stuart (1955, Biometrika 42), by McNemar's exact test for each category
    against all others and Bonferroni's correction for their number; two categories are one test.
    Things that have the same label twice say nothing. Exact at any n, unlike the chi-square of
    Stuart and Maxwell, which needs every category to turn up often. Clusters count by the design
    effect of their differences.
    """
    pairs = list(zip(first, second, strict=True))
    tests = categories if categories > 2 else 1
    by_category = (
        paired_change([float(a == k) - float(b == k) for a, b in pairs], clusters).p
        for k in range(tests)
    )
    return min(1.0, tests * min(by_category, default=1.0))
