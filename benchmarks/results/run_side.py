"""One run's side of a comparison: faults, retrieval and cost."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.results.domain_scores import is_below_chance
from benchmarks.results.error_reasons import count_reasons
from benchmarks.results.letters import LetterChoice, LetterCounts, count_letters
from benchmarks.results.pairing import PairedAnswer, PairedQuestion
from engines.base import Status


@dataclass(frozen=True)
class RunSide:
    """One run, in one domain or in all.

    `missing` questions have no answer yet; errors and truncated ones were not answered either;
    unparsed and cut-off ones count as wrong. `retrieved` counts the questions for which passages
    were found, `n_with_passages` those that were asked with some, `hits` those of `supported` where
    the passage that holds the answer was among them. Tokens are means per answered question;
    seconds are a mean over those that were asked in this run, as an answer that is taken from a
    base run costs no time. `letters` are None where no letters were shown.
    """

    errors: int = 0
    unparsed: int = 0
    cut_off: int = 0
    truncated: int = 0
    missing: int = 0
    retrieved: int = 0
    n_with_passages: int = 0
    leaked: int = 0
    hits: int = 0
    supported: int = 0
    adapted: int = 0
    prompt_tokens: float = 0.0
    output_tokens: float = 0.0
    seconds: float = 0.0
    below_chance: bool = False
    letters: LetterCounts | None = None
    error_reasons: Mapping[str, int] = field(default_factory=dict)

    @property
    def faulty(self) -> int:
        """Questions without an answer that was read, whether it was given or not."""
        return self.errors + self.truncated + self.missing + self.unparsed + self.cut_off


def summarize_side(
    questions: Sequence[PairedQuestion], answers: Sequence[PairedAnswer | None]
) -> RunSide:
    """Sum up one run's answers to these questions."""
    there = [answer for answer in answers if answer is not None]
    pairs = zip(questions, answers, strict=True)
    scored = [(question, a) for question, a in pairs if a is not None and a.correct is not None]
    answered = [answer for _, answer in scored]
    return RunSide(
        errors=sum(a.status == Status.ERROR for a in there),
        unparsed=sum(a.status == Status.UNPARSED for a in there),
        cut_off=sum(a.status == Status.CUT_OFF for a in there),
        truncated=sum(a.status == Status.TRUNCATED for a in there),
        missing=len(answers) - len(there),
        retrieved=sum(a.retrieved > 0 for a in there),
        n_with_passages=sum(a.passages > 0 for a in there),
        leaked=sum(a.leak for a in there),
        hits=sum(a.hit is True for a in there),
        supported=sum(a.hit is not None for a in there),
        adapted=sum(a.adapter for a in there),
        prompt_tokens=_mean([a.prompt_tokens for a in answered]),
        output_tokens=_mean([a.output_tokens for a in answered]),
        seconds=_mean([a.seconds for a in there if a.seconds]),
        below_chance=is_below_chance(
            [float(bool(a.correct)) for a in answered],
            _mean([q.chance for q, _ in scored]),
            [q.cluster for q, _ in scored],
        ),
        letters=count_letters(
            LetterChoice(a.letter, q.gold, round(1 / q.chance), q.cluster)
            for q, a in scored
            if a.letter is not None and q.gold is not None
        ),
        error_reasons=count_reasons(a.reason for a in there if a.reason),
    )


def _mean(values: Sequence[float]) -> float:
    return sum(values) / max(1, len(values))
