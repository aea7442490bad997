"""Scorers of replies: how an answer is extracted, and when it is correct.

A task names its scorer. Most leave it at `BY_REFERENCE`, which takes the scorer that fits the
form of each question's reference answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from benchmarks.scoring.metric_registry import PARTS, TEXT_METRICS
from benchmarks.scoring.replies.called_tools import expects_text, tool_calls
from benchmarks.scoring.replies.numbers import as_number, extract_number
from benchmarks.scoring.replies.option_letters import extract_letter
from benchmarks.scoring.replies.reading import Reading
from benchmarks.scoring.replies.texts import extract_text, same_text, says_one_of
from benchmarks.scoring.replies.yes_no import NO, YES, yes_or_no
from benchmarks.scoring.text_metrics import exact_match
from domainlift.types import Question

# What is read in a reply, or how it is compared: a change must change this number, which is part
# of the fingerprint of a run with generated replies.
READER = 4


@dataclass(frozen=True)
class Scorer:
    """Extractor and comparison for the replies to a task's questions.

    `extract` returns the answer that a reply holds and the form in which it was found, None where
    there is none. `matches` compares what was found with the reference. `metrics` grade the
    answer besides; without `judges` nothing is right or wrong. `name` identifies all of it in the
    fingerprint of a run.
    """

    name: str
    extract: Callable[[Question, str], Reading | None]
    matches: Callable[[Question, Reading], bool]
    metrics: tuple[str, ...] = ()
    judges: bool = True


#: The option that a reply names by its letter or its text.
LETTER = Scorer(
    name="letter",
    extract=lambda question, reply: extract_letter(reply, question.options),
    matches=lambda question, found: found.answer == question.answer,
)
#: The number on which a reply ends, compared by value.
NUMBER = Scorer(
    name="number",
    extract=lambda question, reply: extract_number(reply),
    matches=lambda question, found: found.answer == as_number(str(question.answer)),
)
#: What a reply says, compared but for case, markup, punctuation and articles.
TEXT = Scorer(
    name="text",
    extract=lambda question, reply: _read_text(question, reply),
    matches=lambda question, found: any(
        same_text(str(found.answer), each) for each in question.references
    ),
)


def scorer_of(question: Question) -> Scorer:
    """Return `LETTER` for a question with options, else `NUMBER` or `TEXT` by its reference."""
    if isinstance(question.answer, int):
        return LETTER
    return TEXT if as_number(question.answer) is None else NUMBER


BY_REFERENCE = Scorer(
    name="by reference",
    extract=lambda question, reply: scorer_of(question).extract(question, reply),
    matches=lambda question, found: scorer_of(question).matches(question, found),
)

#: Texts whose log-likelihood is measured.
PERPLEXITY = Scorer("perplexity", lambda *_: None, lambda *_: False, TEXT_METRICS, judges=False)


def metric_scorer(names: Sequence[str]) -> Scorer:
    """The scorer of whole replies by metrics; right is what matches a reference exactly.

    By calls of tools alone, right is what makes the expected ones in order, or gives the expected
    answer without any.
    """
    parts = tuple(part for name in names for part in PARTS.get(name, (name,)))
    extract, matches = (_read_calls, _same_calls) if names == ("tool_calls",) else (_whole, _same)
    return Scorer(f"metrics {' '.join(parts)}", extract, matches, parts)


def asks_yes_or_no(question: Question) -> bool:
    """Whether a question without options has yes or no as its answer."""
    return isinstance(question.answer, str) and all(
        any(same_text(each, word) for word in (YES, NO)) for each in question.references
    )


def _read_text(question: Question, reply: str) -> Reading | None:
    found = extract_text(reply)
    if found is None or not asks_yes_or_no(question):
        return found
    word = yes_or_no(str(found.answer), question.text)
    return Reading(word, "yes or no") if word else found


def _whole(question: Question, reply: str) -> Reading:
    return Reading(reply.strip(), "whole reply")


def _same(question: Question, found: Reading) -> bool:
    return any(exact_match(str(found.answer), each) for each in question.references)


def _read_calls(question: Question, reply: str) -> Reading | None:
    calls, wanted = tool_calls(reply), tool_calls(str(question.answer))
    told = " ".join(f"{name}({arguments})" for name, arguments in calls)
    if calls or wanted:
        return Reading(told, "tool calls", calls) if calls else None
    return Reading(reply.strip(), "whole reply")


def _same_calls(question: Question, found: Reading) -> bool:
    wanted = tool_calls(str(question.answer))
    if found.raw or not expects_text(str(question.answer)):
        return (found.raw or ()) == wanted
    return says_one_of(str(found.answer), question.references)
