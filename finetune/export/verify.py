"""Check of an export: log-probabilities of the same prompts from both models.

Compared are the ten likeliest next tokens of the evaluated model after each prompt.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from domainlift.errors import BenchError
from engines.gguf.model import GgufModel

#: Asked where the caller has no questions of the domain at hand.
PROMPTS = (
    "Question: Which part of a cell holds its genes?\nAnswer:",
    "The treaty that ended the war was signed in the year",
    "Port 443 is used by",
    "12 + 7 =",
    "Name three rivers:\n\n- the Nile\n- (perhaps) the Rhine\n-",
    "Statement: it doesn't rain. Question: is the street wet?\nAnswer:",
    "A. mercury\nB. iron\nC. gold\nThe metal that is liquid at room temperature is",
    "In the beginning there was",
)
TOP = 10
#: Below this no drift is called one: rounding differs between any two programs.
FLOOR = 0.02
#: How many times the base model's own drift an adapter's may be. Both are the largest of some
#: hundred deviations, and such maxima scatter.
_MARGIN = 3.0
#: Nats that storing a model in a type may cost it; one that drifts further is another model.
LARGEST = {"F32": FLOOR, "F16": 0.1, "BF16": 0.5, "Q8_0": 0.5}
_COARSE = 3.0


@dataclass(frozen=True)
class VerifiedPrompt:
    """A prompt's tokens, and what the evaluated model finds likeliest after it, in nats."""

    prompt: str
    tokens: tuple[int, ...]
    likeliest: Mapping[int, float]


Ask = Callable[[VerifiedPrompt], Mapping[int, float]]


@dataclass(frozen=True)
class Check:
    """How far the served artefact is from the evaluated one, over `prompts` prompts.

    `max_abs_delta_logprob` and `tolerance` are in nats, `agreement` is the share of prompts after
    which both find the same token likeliest, `tokenised` the share that both cut alike.
    """

    prompts: int
    max_abs_delta_logprob: float
    agreement: float
    tolerance: float
    tokenised: float = 1.0

    @property
    def ok(self) -> bool:
        """Whether the drift is within the tolerance."""
        return self.max_abs_delta_logprob <= self.tolerance


def ask_model(model: Any, tokenizer: Any, prompts: Sequence[str]) -> list[VerifiedPrompt]:
    """Ask a model of transformers, one prompt at a time, in the type that it was loaded in."""
    if not prompts or not all(tokenizer(prompt)["input_ids"] for prompt in prompts):
        raise BenchError("an export is checked on prompts, and at least one is empty or missing")
    verified = []
    for prompt in prompts:
        tokens = tokenizer(prompt)["input_ids"]
        verified.append(VerifiedPrompt(prompt, tuple(tokens), _likeliest(model, tokens, TOP)))
    return verified


def compare_model(
    verified: Sequence[VerifiedPrompt], model: Any, tokenizer: Any, tolerance: float
) -> Check:
    """Compare with another model of transformers."""
    return compare_logprobs(
        verified,
        lambda each: _likeliest(model, each.tokens, None),
        lambda each: tokenizer(each.prompt)["input_ids"],
        tolerance,
    )


def compare_gguf(verified: Sequence[VerifiedPrompt], served: GgufModel, tolerance: float) -> Check:
    """Compare with what llama.cpp has loaded."""
    return compare_logprobs(
        verified,
        lambda each: dict(enumerate(served.next_logprobs(each.tokens).tolist())),
        lambda each: served.tokenize(each.prompt, special=True),
        tolerance,
    )


def compare_logprobs(
    verified: Sequence[VerifiedPrompt],
    ask: Ask,
    cut: Callable[[VerifiedPrompt], Sequence[int]],
    tolerance: float,
) -> Check:
    """Compare with what `ask` says to each prompt, which `cut` makes tokens of."""
    drift, same, alike = 0.0, 0, 0
    for each in verified:
        served = ask(each)
        drift = max(drift, _drift(each.likeliest, served))
        same += _best(served) == _best(each.likeliest)
        alike += tuple(cut(each)) == each.tokens
    count = len(verified)
    return Check(count, drift, same / count, tolerance, alike / count)


def tolerance_of(base: Check, shown: str, stored: str = "") -> float:
    """What drift is allowed, given the base model's own in the type `stored` ("": not known).

    Raises BenchError where that is more than the type explains, so that it is another model.
    """
    largest = LARGEST.get(stored.upper(), _COARSE)
    # Not `>`, which would let a drift pass that is no number.
    if not base.max_abs_delta_logprob <= largest:
        raise BenchError(
            f"`{shown}` is not the base model: its log-probabilities are "
            f"{base.max_abs_delta_logprob:.2f} nats off, where its type explains {largest:g}",
            "give a file of the very model that the adapter was trained on",
        )
    return max(FLOOR, _MARGIN * base.max_abs_delta_logprob)


def need_ok(check: Check, shown: str) -> None:
    """Raise BenchError where the drift is beyond the tolerance."""
    if not check.ok:
        raise BenchError(
            f"`{shown}` does not answer as the evaluated model: log-probabilities drift by "
            f"{check.max_abs_delta_logprob:.3f} nats where {check.tolerance:.3f} are allowed "
            f"(same answer to {check.agreement:.0%} of {check.prompts} prompts)",
            "nothing was published; try another kind, such as `--to merged`",
        )


def _drift(likeliest: Mapping[int, float], served: Mapping[int, float]) -> float:
    """The largest difference; infinite where anything is no number, which `max` would pass over."""
    # What is not among the served tokens is at most as likely as the least of them.
    least = min(served.values())
    found = [abs(value - served.get(token, least)) for token, value in likeliest.items()]
    return max(found) if all(map(math.isfinite, found)) else math.inf


def _likeliest(model: Any, tokens: Sequence[int], count: int | None) -> dict[int, float]:
    """The next token's log-probabilities, the `count` likeliest or all."""
    import torch

    with torch.inference_mode():
        row = model(torch.tensor([list(tokens)], device=model.device)).logits[0, -1]
        values, indices = row.float().log_softmax(-1).topk(len(row) if count is None else count)
    return dict(zip(indices.tolist(), values.tolist(), strict=True))


def _best(logprobs: Mapping[int, float]) -> int:
    return max(logprobs, key=logprobs.__getitem__)
