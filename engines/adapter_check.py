"""Whether an adapter changes what a model says, asked before it is served."""

from __future__ import annotations

from contextlib import closing

from engines.base import Message, Prompt
from engines.streaming import Sampling, StreamingEngine, TokenLogprob

_PROBE = "Name three things that everybody should know, and say why."
_SAMPLING = Sampling(max_tokens=4, top_logprobs=5)


def changes_logits(engine: StreamingEngine, adapter: str) -> bool | None:
    """Whether an adapter's log-probabilities differ from the base model's; None where none come.

    A server may round otherwise from one time to the next, so the base model is asked twice, and
    the difference must be larger than that between its own replies. Raises as `stream` does.
    """
    # A prompt is computed the first time and then found in a cache, which rounds otherwise.
    asked = [_asked(engine, name) for name in (None, None, None, adapter, adapter)]
    _, base, again, _, adapted = asked
    if not base or not adapted:
        return None
    return _distance(base, adapted) > _distance(base, again)


def _asked(engine: StreamingEngine, adapter: str | None) -> list[TokenLogprob]:
    chat = (Message("user", _PROBE),) if engine.info.has_chat_template else ()
    with closing(engine.stream(Prompt(_PROBE, chat, adapter), _SAMPLING)) as pieces:
        return [token for piece in pieces for token in piece.tokens]


def _distance(one: list[TokenLogprob], other: list[TokenLogprob]) -> float:
    """The largest difference of a token's alternatives, in nats, up to where the texts part."""
    found = 0.0
    for a, b in zip(one, other, strict=False):
        ours = {each.raw: each.logprob for each in (*a.top, a)}
        theirs = {each.raw: each.logprob for each in (*b.top, b)}
        if ours.keys() != theirs.keys():
            return float("inf")
        found = max(found, *(abs(ours[raw] - theirs[raw]) for raw in ours))
        if a.raw != b.raw:
            return found
    return found
