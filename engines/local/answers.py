"""Answers of engines in this process, from scores and from replies."""

from __future__ import annotations

import math
from collections.abc import Sequence

from domainlift.errors import BenchError
from engines.base import Answer, Mode, Request, Status
from engines.local.prefix_tree import PromptItem

#: Log-probability of an option, and whether greedy decoding gives it.
Score = tuple[float, bool]


def scored_answer(
    request: Request, item: PromptItem, scores: Sequence[Score], seconds: float
) -> Answer:
    """Answer from the scores of a request's options; an error where one is not finite."""
    logprobs = tuple(score for score, _ in scores)
    if not all(math.isfinite(score) for score in logprobs):
        return Answer(
            request.id, Status.ERROR, error="the model's log-probabilities are not finite"
        )
    letters = request.mode is Mode.LETTER
    return Answer(
        request.id,
        logprobs=logprobs,
        greedy=tuple(greedy for _, greedy in scores),
        mass=min(1.0, sum(map(math.exp, logprobs))) if letters else None,
        prompt_tokens=len(item.prompt),
        seconds=seconds,
    )


def refused_answer(request: Request, item: PromptItem, context: int | None) -> Answer | None:
    """Error answer to a request that cannot be scored."""
    if not all(item.options):
        return Answer(request.id, Status.ERROR, error="an option is empty")
    options = max((len(option) for option in item.options), default=0)
    return too_long(request, len(item.prompt) + options - 1, context)


def too_long(request: Request, length: int, context: int | None) -> Answer | None:
    """Answer to a request of so many tokens where the model's context has fewer."""
    if context is None or length <= context:
        return None
    return Answer(
        request.id,
        Status.TRUNCATED,
        prompt_tokens=length,
        error=f"{length} tokens exceed the model's context of {context}",
    )


def no_memory(length: int) -> BenchError:
    """The error of a prompt of so many tokens for which memory does not suffice."""
    return BenchError(
        f"memory does not suffice for one prompt of {length} tokens",
        "use fewer examples (`--shots 0`), a smaller model or `--dtype bfloat16`",
    )
