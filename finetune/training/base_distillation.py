"""Hold what is known: rows that the base model answers right keep the base's own probabilities.

Their loss is KL(base || now) over the trained positions instead of -log P(answer): zero at the
beginning, so that nothing is learned from them, and rising as training on other rows moves the
model away ("Learning without Forgetting", Li and Hoiem, 1606.09282). One answer as the target
would sharpen the model on the wording of these rows, which is a change of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from finetune.data.mixing import REPLAY
from finetune.training.packing import Pack
from finetune.training.tokenize import Encoded

if TYPE_CHECKING:
    import torch

#: Of the base's probabilities at a position the largest are kept; the rest is next to nothing.
KEPT = 64
#: Rows to the base's logits at their trained positions, [positions, vocabulary].
AskBase = Callable[[Sequence[Encoded]], "torch.Tensor"]
_Soft = tuple["torch.Tensor", "torch.Tensor"]


class BaseDistillation:
    """Remembers what the base model says of known rows; each is asked once."""

    def __init__(self, ask: AskBase) -> None:
        self._ask = ask
        self._soft: dict[tuple[tuple[int, ...], int], _Soft] = {}

    def hold(self, pack: Pack, examples: Sequence[Encoded]) -> Pack:
        """The pack with targets (positions, kept) and their shares, where it has known rows.

        These must have been seen.
        """
        import torch

        known = _known(examples)
        if not known:
            return pack
        width = max(soft[0].shape[1] for soft in map(self._soft.__getitem__, known))
        parts = [self._soft.get(_key(each)) or _hard(each, width, pack) for each in examples]
        targets, shares = (torch.cat(both) for both in zip(*parts, strict=True))
        return replace(pack, targets=targets, soft_targets=shares)

    def unseen(self, packs: Sequence[Sequence[Encoded]]) -> list[list[Encoded]]:
        """The known rows of which the base has not been asked, each once, pack by pack."""
        asked = set(self._soft)
        found = []
        for examples in packs:
            new = {key: each for key, each in _known(examples).items() if key not in asked}
            asked |= new.keys()
            found.append(list(new.values()))
        return [each for each in found if each]

    def see(self, examples: Sequence[Encoded]) -> None:
        """Ask the base of known rows, all at once."""
        import torch

        logits = self._ask(examples).float()
        shares, tokens = logits.softmax(-1).topk(min(KEPT, logits.shape[-1]))
        counts = [each.trained for each in examples]
        parts = zip(torch.split(tokens, counts), torch.split(shares, counts), strict=True)
        for each, (own, likely) in zip(examples, parts, strict=True):
            self._soft[_key(each)] = own.clone(), likely.clone()


def _known(examples: Sequence[Encoded]) -> dict[tuple[tuple[int, ...], int], Encoded]:
    return {_key(each): each for each in examples if each.row.kind == REPLAY}


def _key(example: Encoded) -> tuple[tuple[int, ...], int]:
    return example.ids, example.prompt_length


def _hard(example: Encoded, width: int, pack: Pack) -> _Soft:
    """One answer, in the shape of many."""
    import torch

    device = pack.targets.device
    targets = torch.zeros(example.trained, width, dtype=torch.long, device=device)
    shares = torch.zeros(example.trained, width, device=device)
    targets[:, 0] = torch.tensor(example.ids[example.prompt_length :], device=device)
    shares[:, 0] = 1.0
    return targets, shares
