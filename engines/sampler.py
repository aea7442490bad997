"""Choice of the next token from its logits, and log-probabilities to show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from math import isfinite

import numpy as np

from domainlift.errors import BenchError
from engines.streaming import Sampling, TokenLogprob


class Sampler:
    """Chooses the tokens of one reply, with random numbers of its own."""

    def __init__(self, sampling: Sampling) -> None:
        self._sampling = sampling
        self._random = np.random.default_rng(sampling.seed)
        self._written: Counter[int] = Counter()

    def choose(self, logits: np.ndarray) -> int:
        """The next token, of logits (vocabulary,), which are left as they are.

        Raises BenchError where they are no numbers.
        """
        wished = self._sampling
        if self._written and (wished.presence_penalty or wished.frequency_penalty):
            logits = self._penalised(logits)
        token = int(logits.argmax())  # of a row with a NaN that one
        if not isfinite(logits[token]):
            raise BenchError("the model's log-probabilities are not finite")
        if wished.temperature > 0:
            scaled = (logits - logits[token]) / max(wished.temperature, 1e-6)
            token = draw(scaled, wished.top_p, self._random.random())
        self._written[token] += 1
        return token

    def _penalised(self, logits: np.ndarray) -> np.ndarray:
        lower = logits.copy()
        for token, count in self._written.items():
            lower[token] -= (
                self._sampling.presence_penalty + count * self._sampling.frequency_penalty
            )
        return lower


def draw(logits: np.ndarray, top_p: float, number: float) -> int:
    """The token at the quantile `number`, in [0, 1), of the nucleus of mass `top_p`.

    The nucleus is the smallest set of the most likely tokens that has this mass (Holtzman et al.
    2020, The Curious Case of Neural Text Degeneration).
    """
    weights = np.exp(logits.astype(np.float64))
    weights /= weights.sum()
    if top_p < 1:
        # All tokens below this bound together have less than 1 - top_p: only the others are sorted.
        kept = np.flatnonzero(weights >= (1 - top_p) / len(weights))
        kept = kept[np.argsort(-weights[kept], kind="stable")]
        kept = kept[: 1 + int(np.searchsorted(weights[kept].cumsum(), top_p))]
    else:
        kept = np.flatnonzero(weights)
    mass = weights[kept].cumsum()
    return int(kept[min(int(np.searchsorted(mass, number * mass[-1], "right")), len(kept) - 1)])


def log_softmax(row: np.ndarray) -> np.ndarray:
    """Log-probabilities of logits (vocabulary,); summed in 64 bits."""
    shifted = row - row.max()
    logprobs: np.ndarray = shifted - np.float32(np.log(np.exp(shifted).sum(dtype=np.float64)))
    return logprobs


def token_logprob(
    logits: np.ndarray, token: int, top: int, raw: Callable[[int], bytes]
) -> TokenLogprob:
    """A token's log-probability before temperature and penalties, with its `top` alternatives."""
    values = log_softmax(logits)
    best = np.argpartition(values, -top)[-top:] if top else np.array([], dtype=int)

    def shown(token: int, alternatives: tuple[TokenLogprob, ...] = ()) -> TokenLogprob:
        text = raw(token)
        return TokenLogprob(
            text.decode("utf-8", "replace"), text, float(values[token]), alternatives
        )

    return shown(token, tuple(shown(int(n)) for n in best[np.argsort(-values[best])]))
