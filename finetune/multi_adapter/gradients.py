"""The gradients of one optimiser step of several adapters, each of its own mean loss."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from finetune.training.gradients import GradientWorker
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import Encoded

if TYPE_CHECKING:
    from finetune.multi_adapter.layers import Joint


@dataclass(frozen=True)
class _Owned(Encoded):
    """A row, and the number of its adapter."""

    owner: int = 0


class JointGradientWorker(GradientWorker):
    """Computes the gradients of several adapters at once."""

    def __init__(self, joint: Joint, settings: TrainingArguments, **more: Any) -> None:
        self._joint = joint
        with joint.using(None):  # the model is tried
            super().__init__(joint.model, settings, **more)

    def each(self, parts: Sequence[Sequence[Encoded]]) -> list[float]:
        """Make each adapter's gradient of its own mean loss, and return these losses in nats."""
        import torch

        owned = [
            _Owned(e.ids, e.prompt_length, e.row, e.n_truncated, owner)
            for owner, part in enumerate(parts)
            for e in part
        ]
        trained = [max(1, sum(example.trained for example in part)) for part in parts]
        losses = self._persistent(owned, torch.tensor(trained, device=self.device))
        return [float(loss) for loss in losses]

    def _backward(self, examples: Sequence[Any], trained: Any) -> Any:
        """One pack, forward and backward; what it adds to each adapter's loss."""
        import torch

        rows = [example.owner for example in examples]
        tokens = [[example.owner for example in examples for _ in example.ids]]
        read = [example.owner for example in examples for _ in range(example.trained)]
        owners = torch.tensor(read, device=self.device)
        index = torch.tensor(tokens if self._apart else rows, device=self.device)
        # Around the backward pass too: recomputed activations ask again.
        with self._joint.using(index):
            losses = self._losses(self._pack(examples))
            sums = torch.zeros(len(trained), device=self.device).index_add(0, owners, losses)
            means = sums / trained
            means.sum().backward()
        return means.detach()

    def _bare(self) -> AbstractContextManager[None]:
        """The model without its adapters."""
        return self._joint.using(None)
