"""Answers of engines in this process, from scores and from replies."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from engines.base import Answer, Mode, Request, Status
from engines.local.prefix_tree import PromptItem
from engines.thought_markers import answer_start

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


def refused_answer(
    request: Request, item: PromptItem, before: int, context: int | None
) -> Answer | None:
    """Error answer to a request that cannot be scored; `before` tokens precede each prompt."""
    if not all(item.options):
        return Answer(request.id, Status.ERROR, error="an option is empty")
    options = max((len(option) for option in item.options), default=0)
    return too_long(request, before + len(item.prompt) + options - 1, context)


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


def finished_reply(
    request: Request,
    tokens: Sequence[int],
    ended: bool,
    decode: Callable[[Sequence[int]], str],
    opened: str = "",
) -> tuple[str, bool] | None:
    """Text of a finished reply without its stop string, and whether the limit cut it off.

    None where it goes on. `ended` tells that the last token is one that ends a reply, `opened` is
    the mark with which the prompt began a thought; a stop string within a thought ends nothing.
    """
    text = opened + decode(tokens[:-1] if ended else tokens)
    after = answer_start(text)
    found = [at for stop in request.stop if stop and (at := text.find(stop, after)) >= 0]
    if found:
        return text[: min(found)], False
    cut_off = not ended and len(tokens) >= request.max_tokens
    return (text, cut_off) if ended or cut_off else None
