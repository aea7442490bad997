"""Protocol of engines that write replies piece by piece, for many callers at once."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol, runtime_checkable

from domainlift.errors import Misuse
from engines.base import Engine, Prompt


class PromptTooLong(Misuse):
    """A prompt that leaves no room for a reply in the model's context."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is chosen, and where a reply ends.

    A `temperature` of 0 takes the most likely token. The penalties are subtracted from the logits
    of tokens that were written before (presence: once; frequency: for each time). `top_logprobs` is
    the number of alternatives that each token comes with, None for no log-probabilities at all.
    One `seed` and one prompt give one reply. `max_tokens` None is what the context leaves.
    """

    temperature: float = 0.0
    top_p: float = 1.0
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0
    stop: tuple[str, ...] = ()
    max_tokens: int | None = None
    top_logprobs: int | None = None


@dataclass(frozen=True)
class TokenLogprob:
    """A token's text and bytes, its log-probability in nats, and the most likely ones there."""

    text: str
    raw: bytes
    logprob: float
    top: tuple[TokenLogprob, ...] = ()


@dataclass(frozen=True)
class ReplyDelta:
    """The next piece of a reply; the last one has a `finish`.

    `finish` is "stop" (a stop string or an end token), "length" (`max_tokens` or the context) or
    "tool_calls", which only a server says. Text that could begin a stop string is held back until
    it does not. The numbers of tokens are those so far. A server sets thoughts apart from the text
    and says which tools it calls (`calls`: pieces in the form of OpenAI's API, with their `index`);
    in a reply of this process both stand in the text, between the model's own marks.
    """

    text: str = ""
    thought: str = ""
    calls: tuple[Mapping[str, Any], ...] = field(default=(), hash=False)
    tokens: tuple[TokenLogprob, ...] = ()
    finish: str | None = None
    prompt_tokens: int = 0
    output_tokens: int = 0


@runtime_checkable
class StreamingEngine(Engine, Protocol):
    """An engine that can be asked by many threads at once."""

    def stream(self, prompt: Prompt, sampling: Sampling) -> Generator[ReplyDelta, None, None]:
        """Yield a reply as it grows; closing the generator ends its decoding.

        Raises PromptTooLong before the first piece where the prompt leaves no room for a reply,
        Misuse for what this engine cannot do (for example an adapter that it has not), and
        EngineDown where no further piece can come.
        """
        ...
