"""Metrics that grade an answer: their statistics of one question, and their value over many.

A record keeps the statistics, so that a value of a corpus (BLEU, chrF, a perplexity) can be made
of any questions: of a domain, of those that two runs share, of a bootstrap sample.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from benchmarks.scoring.replies.called_tools import expects_text, tool_call_shares, tool_calls
from benchmarks.scoring.replies.texts import says_one_of
from benchmarks.scoring.text_metrics import (
    exact_match,
    rouge,
    rouge_signature,
    sacrebleu_signature,
    sacrebleu_statistics,
    sacrebleu_value,
    word_f1,
)
from domainlift.errors import NoSuch
from domainlift.stats.bootstrap import ValueOfSums
from domainlift.types import Question
from engines.base import Answer

#: Statistics of one question, as a record keeps them.
Statistics = tuple[float, ...]
#: Of the windows in which texts are read for their perplexity: bytes before one, and in it.
CONTEXT, STRIDE = 1024, 1024


@dataclass(frozen=True)
class Metric:
    """A metric; `value` is of the number of questions and the sums of their statistics.

    `statistics` are None for a question that it does not concern.
    `signature` says of some questions how they are measured, for the record.
    """

    statistics: Callable[[Question, Answer], Statistics | None]
    value: ValueOfSums
    signature: Callable[[Sequence[Question]], str] | None = None
    lower_is_better: bool = False


def measure(names: Iterable[str], question: Question, answer: Answer) -> dict[str, Statistics]:
    """The statistics of an answer by these metrics; a reply that was cut off counts as it is."""
    found = {name: METRICS[name].statistics(question, answer) for name in names}
    return {name: statistics for name, statistics in found.items() if statistics is not None}


def metric_names(text: str) -> tuple[str, ...]:
    """Read names of metrics of replies, separated by commas; NoSuch with the nearest one."""
    names = {name.strip() for name in text.split(",")}
    for name in names:
        if name not in REPLY_METRICS:
            raise NoSuch("metric", name, REPLY_METRICS)
    return tuple(name for name in REPLY_METRICS if name in names)


def signatures(names: Iterable[str], questions: Sequence[Question]) -> dict[str, str]:
    """How these questions are measured, by metric."""
    made = ((name, METRICS[name].signature) for name in names)
    return {name: signature(questions) for name, signature in made if signature is not None}


# --- of replies


def _mean(sums: Sequence[float]) -> float:
    return sums[1] / sums[0]


def _best(grade: Callable[[str, str], float]) -> Metric:
    """The mean over questions of the grade by the reference that fits best."""

    def statistics(question: Question, answer: Answer) -> Statistics:
        return (max(grade(_said(answer), each) for each in question.references),)

    return Metric(statistics, _mean)


def _rouge(kind: str) -> Metric:
    return Metric(
        lambda question, answer: (rouge(kind, _said(answer), question.references),),
        _mean,
        lambda _: rouge_signature(),
    )


def _sacrebleu(name: str) -> Metric:
    return Metric(
        lambda question, answer: sacrebleu_statistics(name, _said(answer), question.references),
        lambda sums: sacrebleu_value(name, sums[1:]),
        lambda questions: sacrebleu_signature(name, [len(q.references) for q in questions]),
    )


def _tool(part: int) -> Metric:
    return Metric(
        lambda question, answer: (tool_call_shares(_said(answer), str(question.answer))[part],),
        _mean,
    )


def _last_answer(question: Question, answer: Answer) -> Statistics | None:
    """Whether the right answer is given where one in words is expected."""
    if not expects_text(str(question.answer)):
        return None
    said = _said(answer)
    return (float(not tool_calls(said) and says_one_of(said, question.references)),)


def _said(answer: Answer) -> str:
    return answer.text.strip() if answer.text is not None else ""


#: Metrics that a suite or `--metric` may name; what `tool_calls` stands for is `PARTS`.
REPLY_METRICS = ("em", "f1", "rouge1", "rouge2", "rougeL", "bleu", "chrf", "tool_calls")
PARTS = {"tool_calls": ("tool", "arguments", "order", "answer")}


# --- of log-likelihoods


def _text_statistics(size: Callable[[Question], int]) -> Callable[[Question, Answer], Statistics]:
    return lambda question, answer: (answer.logprobs[0], float(size(question)))


def _words(question: Question) -> int:
    """Words of a window; one that began in the window before is counted there."""
    text = question.options[0]
    return len(text.split()) - bool(question.text and not text[:1].isspace())


def _bytes(question: Question) -> int:
    return len(question.options[0].encode("utf-8", "replace"))


def _perplexity(size: Callable[[Question], int]) -> Metric:
    """exp(−Σ log P / Σ size): a perplexity per unit of text, whatever a model's tokens are."""
    return Metric(
        _text_statistics(size),
        lambda sums: math.exp(min(-sums[1] / max(sums[2], 1), 700)),
        lambda _: _WINDOWS,
        lower_is_better=True,
    )


_WINDOWS = f"windows of {CONTEXT + STRIDE} bytes, stride {STRIDE}"

METRICS: Mapping[str, Metric] = {
    "em": _best(exact_match),
    "f1": _best(word_f1),
    "rouge1": _rouge("rouge1"),
    "rouge2": _rouge("rouge2"),
    "rougeL": _rouge("rougeL"),
    "bleu": _sacrebleu("bleu"),
    "chrf": _sacrebleu("chrf"),
    "tool": _tool(0),
    "arguments": _tool(1),
    "order": _tool(2),
    "answer": Metric(_last_answer, _mean),
    "word_perplexity": _perplexity(_words),
    "byte_perplexity": _perplexity(_bytes),
    "bits_per_byte": Metric(
        _text_statistics(_bytes),
        lambda sums: -sums[1] / max(sums[2], 1) / math.log(2),
        lambda _: _WINDOWS,
        lower_is_better=True,
    ),
}
#: What is measured of a text.
TEXT_METRICS = ("word_perplexity", "byte_perplexity", "bits_per_byte")
