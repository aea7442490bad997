"""Loss at trained positions, with one copy of their logits where torch would keep three."""

from __future__ import annotations

from typing import Any

import torch

#: Rows of logits that are looked at together, in float32.
_SLICE = 64
#: A probability below this is rounding.
_LEAST = 1e-6


def answer_losses(
    logits: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor | None = None
) -> torch.Tensor:
    """The loss of each position in nats; logits are [positions, vocabulary].

    With `targets` [positions] it is -log P(target). With [positions, n] and their `shares` it is
    the Kullback-Leibler divergence of the prediction from these shares, all other tokens taken
    together. The gradient is written over the logits, which must not be read afterwards.
    """
    if shares is None:
        targets = targets[:, None]
        shares = torch.ones_like(targets, dtype=torch.float32)
    function: Any = _Divergence
    losses: torch.Tensor = function.apply(logits, targets, shares)
    return losses


class _Divergence(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, logits: torch.Tensor, targets: torch.Tensor, shares: torch.Tensor
    ) -> torch.Tensor:
        sums = torch.cat([part.float().logsumexp(-1) for part in torch.split(logits, _SLICE)])
        ctx.kept = logits, targets, shares, sums
        logprobs = logits.gather(1, targets).float() - sums[:, None]
        rest, others = _rest(shares), _others(logprobs.exp())
        named = (torch.xlogy(shares, shares) - shares * logprobs).sum(-1)
        return named + torch.xlogy(rest, rest) - rest * others.log()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        logits, *others = ctx.kept
        ctx.kept = ()
        parts = (torch.split(each, _SLICE) for each in (logits, *others, grad))
        for part, targets, shares, sums, weights in zip(*parts, strict=True):
            exact = part if part.dtype == torch.float32 else part.float()
            exact.sub_(sums[:, None]).exp_()
            named = exact.gather(1, targets)
            # d(-log softmax) = softmax - 1 at the target; of the others each has its part.
            ratio = (_rest(shares) / _others(named))[:, None]
            exact.mul_(1 - ratio).scatter_add_(1, targets, ratio * named - shares)
            exact.mul_(weights[:, None])
            if exact is not part:
                part.copy_(exact)
        return logits, None, None


def _rest(shares: torch.Tensor) -> torch.Tensor:
    """Probability mass of all other tokens; 0 where only rounding leaves any."""
    rest = 1 - shares.sum(-1)
    return torch.where(rest > _LEAST, rest, 0)


def _others(named: torch.Tensor) -> torch.Tensor:
    return (1 - named.sum(-1)).clamp_min(_LEAST)
