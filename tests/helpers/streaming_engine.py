"""A small engine that writes replies piece by piece: a word each, which repeats the prompt."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Iterator
from threading import Event

from engines.base import EngineInfo, Prompt
from engines.streaming import PromptTooLong, ReplyDelta, Sampling, TokenLogprob
from tests.helpers.fake_engine import INFO, FakeEngine


class EchoEngine(FakeEngine):
    """Says the words of the last turn, in capitals through an adapter, `pause` seconds apart.

    `said` counts the words of all replies; `gone` is set when a reply was closed before its end.
    """

    def __init__(self, info: EngineInfo = INFO, pause: float = 0.0) -> None:
        super().__init__(info)
        self.pause = pause
        self.prompts: list[Prompt] = []
        self.samplings: list[Sampling] = []
        self.said = 0
        self.gone = Event()
        self.trouble: BaseException | None = None

    def stream(self, prompt: Prompt, sampling: Sampling) -> Iterator[ReplyDelta]:
        self.prompts.append(prompt)
        self.samplings.append(sampling)
        text = prompt.messages[-1].content if prompt.messages else prompt.text
        length = len(" ".join([prompt.text, *(m.content for m in prompt.messages)]).split())
        if self.info.context is not None and length >= self.info.context:
            raise PromptTooLong(f"a prompt of {length} tokens exceeds the context window")
        words = (text.upper() if prompt.adapter else text).split()
        if sampling.temperature:
            random.Random(sampling.seed).shuffle(words)
        most = len(words) if sampling.max_tokens is None else sampling.max_tokens
        counts = {"prompt_tokens": length}
        try:
            for number, word in enumerate(words[:most]):
                if self.trouble is not None and number == 2:
                    raise self.trouble
                if any(stop in word for stop in sampling.stop):
                    yield ReplyDelta(finish="stop", output_tokens=number, **counts)
                    return
                time.sleep(self.pause)
                self.said += 1
                piece = word if number == 0 else f" {word}"
                tokens = () if sampling.top_logprobs is None else (_token(piece, sampling),)
                yield ReplyDelta(piece, tokens=tokens, output_tokens=number + 1, **counts)
            finish = "length" if most < len(words) else "stop"
            yield ReplyDelta(finish=finish, output_tokens=min(most, len(words)), **counts)
        except GeneratorExit:
            self.gone.set()
            raise


def _token(piece: str, sampling: Sampling) -> TokenLogprob:
    others = [(piece, 0.5), (" A", 0.3), (" B", -math.inf)][: sampling.top_logprobs]
    top = tuple(TokenLogprob(t, t.encode(), p and math.log(p) if p > 0 else p) for t, p in others)
    return TokenLogprob(piece, piece.encode(), math.log(0.5), top)
