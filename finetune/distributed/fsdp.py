"""A model shared out: each process keeps a part of every layer's weights (FSDP).

A layer is put together where it is computed, and let go again. So no process can make a pass alone:
in a step all make equally many (`ProcessGroup.most`), and where the first works by itself the
others lend it their parts (`finetune.distributed.rank_zero`). What stands outside the layers, as
embeddings do, each process has whole.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from domainlift.errors import BenchError, Misuse
from finetune.distributed.process_group import (
    ProcessGroup,
    from_environment,
    is_initialized,
    is_part,
)
from finetune.training.settings import TrainingArguments

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

#: Methods that need more of the base than one layer at a time, and why.
_WHOLE = {
    "dora": "it measures whole weights before it begins",
    "qlora": "weights of 4 bits are not cut into parts",
}
#: A layer in use and the next one, which is fetched meanwhile.
AT_ONCE = 2


def fsdp_requested(method: str) -> bool:
    """Whether the launcher asks for it (`accelerate launch --use_fsdp`).

    Raises Misuse for methods of training that cannot do with parts of the base.
    """
    asked = os.environ.get("ACCELERATE_USE_FSDP", "").lower() in {"1", "true"}
    if not asked or from_environment().size == 1:
        return False
    if method in _WHOLE:
        raise Misuse(
            f"`{method}` does not go with `--use_fsdp`: {_WHOLE[method]}",
            "leave out `--use_fsdp`, or set `method: lora`",
        )
    return True


def shard_model(
    model: PreTrainedModel, device: torch.device, team: ProcessGroup, settings: TrainingArguments
) -> None:
    """Keep this process's part of every layer on its device, and all the rest of a loaded model.

    Its own processor may hold it whole before, as no device could. Afterwards it has the type that
    `settings` ask for, and stays frozen unless all of it is to be trained.
    """
    import torch
    from torch.distributed import fsdp
    from torch.distributed.device_mesh import init_device_mesh

    # The youngest of what is used here.
    if not hasattr(getattr(fsdp, "FSDPModule", None), "set_force_sum_reduction_for_comms"):
        raise BenchError(
            f"torch {torch.__version__} cannot share a model out",
            "install a newer one (2.13 can), or leave out `--use_fsdp`",
        )
    mesh = init_device_mesh(device.type, (team.size,))
    trained = settings.method == "full"
    if trained or settings.dtype != "auto":
        model.to(torch.float32 if trained else getattr(torch, settings.dtype))
    decoder: Any = model.requires_grad_(trained).base_model
    layers = layers_of(model)
    if not layers:
        raise Misuse(
            f"{type(model).__name__} does not say which of its layers can be shared out",
            "leave out `--use_fsdp`",
        )
    for layer in layers:
        made: Any = fsdp.fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        if trained:  # gradients are sums over all processes, as `all_reduce_sum` makes of the rest
            made.set_gradient_divide_factor(1.0)
            made.set_force_sum_reduction_for_comms(True)
    parts = {weight for layer in layers for weight in layer.parameters()}
    model.to(device)
    rest = {weight for weight in decoder.parameters() if weight not in parts}
    # It has no weights of its own to put together, but knows in which order its layers come.
    fsdp.fully_shard(decoder, mesh=mesh, ignored_params=rest)
    with torch.no_grad():  # buffers made in inference mode could not be trained with
        smallest_pass(decoder, device)


def fsdp_root(model: Any) -> Any | None:
    """The part of a model that all processes must call equally often; None where it is whole."""
    if not is_initialized():
        return None
    from torch.distributed.fsdp import FSDPModule

    return next((each for each in model.modules() if isinstance(each, FSDPModule)), None)


def in_use(model: Any) -> int:
    """Bytes of the layers that are put together at once; 0 where the model is whole."""
    root = fsdp_root(model)
    if root is None:
        return 0
    from torch.distributed.fsdp import FSDPModule

    layers: Iterable[Any] = (each for each in root.modules() if isinstance(each, FSDPModule))
    sizes: list[int] = [sum(weight.nbytes for weight in each.parameters()) for each in layers]
    return AT_ONCE * max(sizes[1:])  # the first one is the root


def full_tensor(weight: torch.Tensor) -> torch.Tensor:
    """All of a weight, on the processor where it was shared out; every process must ask for it."""
    return weight.full_tensor().cpu() if is_part(weight) else weight  # type: ignore[attr-defined]


def copy_into(weight: torch.Tensor, numbers: torch.Tensor) -> None:
    """Write all of a weight's numbers into it, or those of this process's part."""
    if is_part(weight):
        from torch.distributed.tensor import distribute_tensor

        part: Any = weight
        numbers = distribute_tensor(
            numbers.to(part.device), part.device_mesh, part.placements, src_data_rank=None
        )
    weight.copy_(numbers)


def by_placement(weights: Iterable[torch.nn.Parameter]) -> list[list[torch.nn.Parameter]]:
    """Weights that are whole and weights that are parts, which torch does not work on together."""
    every = list(weights)
    kinds = ([weight for weight in every if is_part(weight) is part] for part in (False, True))
    return [kind for kind in kinds if kind]


def clip_gradients(weights: Iterable[torch.nn.Parameter], most: float) -> float:
    """Shrink gradients, in place, to this norm at most; the norm that they had together."""
    import torch
    from torch.nn.utils import clip_grads_with_norm_, get_total_norm

    kinds = by_placement(weights)
    norms = [full_tensor(get_total_norm([w.grad for w in k if w.grad is not None])) for k in kinds]
    norm = torch.stack([each.cpu() for each in norms]).norm()
    for kind in kinds:
        clip_grads_with_norm_(kind, most, norm.to(kind[0].device))
    return float(norm)


def smallest_pass(decoder: Any, device: Any) -> None:
    """The smallest pass, in which every layer is put together once."""
    import torch

    decoder(input_ids=torch.zeros(1, 1, dtype=torch.long, device=device), use_cache=False)


def layers_of(model: Any) -> list[Any]:
    """What an architecture says must stay together; within such a part others may be named."""
    names = set(model._no_split_modules or ())
    found: list[Any] = []
    within: set[Any] = set()
    for each in model.base_model.modules():  # those outside come first
        if type(each).__name__ in names and each not in within:
            found.append(each)
            within.update(each.modules())
    return found
