"""A reply as it is written, token by token: what of its text may be shown, and where it ends."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from engines.sampler import Sampler, token_logprob
from engines.streaming import ReplyDelta, Sampling, TokenLogprob
from engines.thought_markers import answer_start

#: Bytes of a character of UTF-8 that may lack its last one, each of them decoded as `_BROKEN`.
_UNFINISHED, _BROKEN = 3, "\ufffd"


@dataclass(frozen=True)
class TokenReader:
    """What tokens mean: their text, the bytes of one, and whether one ends a reply."""

    decode: Callable[[Sequence[int]], str]
    raw: Callable[[int], bytes]
    ends: Callable[[int], bool]


class TokenText:
    """Text of tokens one by one; an unfinished character waits for the rest of its bytes."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        # Some of the last tokens, since the first of a text may be decoded otherwise.
        self._tokens: list[int] = []
        self._known = self._said = 0

    def add(self, token: int) -> str:
        """The text that this token completes."""
        self._tokens.append(token)
        text = self._decode(self._tokens)
        waiting = min(_UNFINISHED, len(text) - len(text.rstrip(_BROKEN)))
        piece = text[self._said : len(text) - waiting]
        self._said += len(piece)
        if piece and not waiting:
            self._tokens = self._tokens[self._known :]
            self._known, self._said = len(self._tokens), len(self._decode(self._tokens))
        return piece

    def rest(self) -> str:
        """What still waits."""
        return self._decode(self._tokens)[self._said :]


class StopText:
    """Text up to the first stop string after its thought; what could begin one is held back."""

    def __init__(self, stops: Sequence[str], opened: str = "") -> None:
        self._stops = tuple(filter(None, stops))
        self._text = opened
        self.said = 0
        self.stopped = False

    def __len__(self) -> int:
        return len(self._text)

    def add(self, piece: str, *, last: bool = False) -> str:
        """What may be shown with this piece; with the last one nothing is held back."""
        if self.stopped:
            return ""
        self._text += piece
        end = self._end(last) if self._stops else len(self._text)
        shown = self._text[self.said : end]
        self.said += len(shown)
        return shown

    def _end(self, last: bool) -> int:
        text = self._text
        start = max(self.said, answer_start(text))
        found = [at for stop in self._stops if (at := text.find(stop, start)) >= 0]
        if found:
            self.stopped = True
            return min(found)
        longest = max(map(len, self._stops))
        for at in range(max(start, len(text) - longest + 1), 0 if last else len(text)):
            if any(stop.startswith(text[at:]) for stop in self._stops):
                return at
        return len(text)


class ReplyWriter:
    """Writes one reply of at most `limit` tokens; `opened` began its thought in the prompt."""

    def __init__(
        self, reader: TokenReader, sampling: Sampling, prompt: int, limit: int, opened: str
    ) -> None:
        self.tokens: list[int] = []
        self._reader = reader
        self._sampler = Sampler(sampling)
        self._top = sampling.top_logprobs
        self._prompt, self._limit = prompt, limit
        self._text = TokenText(reader.decode)
        self._shown = StopText(sampling.stop, opened)
        # Tokens whose text was not shown yet, and where it begins.
        self._waiting: list[tuple[int, TokenLogprob]] = []

    def next(self, logits: np.ndarray) -> ReplyDelta | None:
        """Choose a token of logits (vocabulary,); what can be shown of the reply, or its end."""
        token = self._sampler.choose(logits)
        self.tokens.append(token)
        ended = self._reader.ends(token)
        last = ended or len(self.tokens) >= self._limit
        if self._top is not None and not ended:
            shown = token_logprob(logits, token, self._top, self._reader.raw)
            self._waiting.append((len(self._shown), shown))
        piece = "" if ended else self._text.add(token)
        text = self._shown.add(piece + (self._text.rest() if last else ""), last=last)
        finish = "stop" if ended or self._shown.stopped else "length" if last else None
        if not text and finish is None:
            return None
        tokens = self._through(everything=last and not self._shown.stopped)
        return ReplyDelta(
            text,
            tokens=tokens,
            finish=finish,
            prompt_tokens=self._prompt,
            output_tokens=len(self.tokens),
        )

    def _through(self, everything: bool) -> tuple[TokenLogprob, ...]:
        """Tokens that begin in what is shown now."""
        out = [each for at, each in self._waiting if everything or at < self._shown.said]
        self._waiting = self._waiting[len(out) :]
        return tuple(out)
