"""Distillation from the base model on replay rows, against forgetting.

Their loss is KL(base || adapter) over the trained positions instead of -log P(answer): zero at the
beginning, so that nothing is learned from them, and rising as training on other rows moves the
model away ("Learning without Forgetting", Li and Hoiem, 1606.09282). One answer as the target
would sharpen the model on the wording of these rows, which is a change of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import torch

from finetune.data.mixing import REPLAY
from finetune.training.packing import Pack
from finetune.training.tokenize import Encoded

#: The largest probabilities at a position that are kept; the rest is next to nothing.
KEPT = 64
#: Rows to the base's logits at their trained positions, [positions, vocabulary].
BaseLogits = Callable[[Sequence[Encoded]], "torch.Tensor"]
_Soft = tuple["torch.Tensor", "torch.Tensor"]
_Key = tuple[tuple[int, ...], int]


class BaseDistillation:
    """The base model's probabilities on replay rows; each row is computed once."""

    def __init__(self, base_logits: BaseLogits) -> None:
        self._base_logits = base_logits
        self._soft: dict[_Key, _Soft] = {}

    def soften(self, pack: Pack, examples: Sequence[Encoded]) -> Pack:
        """The pack with soft targets [positions, kept], where it has replay rows.

        `compute` must have been called for these.
        """
        replay = _replay_rows(examples)
        if not replay:
            return pack
        width = max(soft[0].shape[1] for soft in map(self._soft.__getitem__, replay))
        parts = [self._soft.get(_key(each)) or _hard(each, width, pack) for each in examples]
        targets, probabilities = (torch.cat(both) for both in zip(*parts, strict=True))
        return replace(pack, targets=targets, soft_targets=probabilities)

    def missing(self, packs: Sequence[Sequence[Encoded]]) -> list[list[Encoded]]:
        """The replay rows without probabilities yet, each once, pack by pack."""
        computed = set(self._soft)
        missing = []
        for examples in packs:
            new = {key: each for key, each in _replay_rows(examples).items() if key not in computed}
            computed |= new.keys()
            missing.append(list(new.values()))
        return [each for each in missing if each]

    def compute(self, examples: Sequence[Encoded]) -> None:
        """Compute the base's probabilities on replay rows, in one pass."""
        logits = self._base_logits(examples).float()
        probabilities, tokens = logits.softmax(-1).topk(min(KEPT, logits.shape[-1]))
        counts = [each.trained for each in examples]
        parts = zip(torch.split(tokens, counts), torch.split(probabilities, counts), strict=True)
        for each, (own, probabilities) in zip(examples, parts, strict=True):
            self._soft[_key(each)] = own.clone(), probabilities.clone()


def _replay_rows(examples: Sequence[Encoded]) -> dict[_Key, Encoded]:
    return {_key(each): each for each in examples if each.row.kind == REPLAY}


def _key(example: Encoded) -> _Key:
    return example.ids, example.prompt_length


def _hard(example: Encoded, width: int, pack: Pack) -> _Soft:
    """A hard target, in the shape of soft ones."""
    device = pack.targets.device
    targets = torch.zeros(example.trained, width, dtype=torch.long, device=device)
    probabilities = torch.zeros(example.trained, width, device=device)
    targets[:, 0] = torch.tensor(example.targets, device=device)
    probabilities[:, 0] = 1.0
    return targets, probabilities
