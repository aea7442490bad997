"""The loss of trained positions, with one copy of their logits where torch would keep three."""

from __future__ import annotations

from typing import Any

import torch

#: Rows of logits that are looked at together, in float32.
_SLICE = 64


def answer_loss(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """The sum of -log P(target) in nats, [positions, vocabulary] and [positions] in.

    The gradient is written over the logits, which must not be read afterwards.
    """
    function: Any = _CrossEntropy
    loss: torch.Tensor = function.apply(logits, targets)
    return loss


class _CrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        sums = torch.cat([part.float().logsumexp(-1) for part in torch.split(logits, _SLICE)])
        ctx.kept = logits, targets, sums
        aims = logits.gather(1, targets[:, None])[:, 0].float()
        return (sums - aims).sum()

    @staticmethod
    def backward(ctx: Any, grad: torch.Tensor) -> Any:
        logits, targets, sums = ctx.kept
        ctx.kept = ()
        # d(-log softmax) = softmax - 1 at the target.
        for part, each in zip(torch.split(logits, _SLICE), torch.split(sums, _SLICE), strict=True):
            if part.dtype == torch.float32:
                part.sub_(each[:, None]).exp_()
            else:
                part.copy_((part.float() - each[:, None]).exp())
        rows = torch.arange(len(targets), device=targets.device)
        logits[rows, targets] -= 1
        return logits.mul_(grad), None
