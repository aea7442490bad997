"""Fully sharded data parallel (FSDP): each process keeps a shard of every layer's weights.

A layer is gathered where it is computed, and freed again. So no process can make a pass alone: in
a step all make equally many (`ProcessGroup.all_reduce_max`), and where rank 0 works by itself the
others follow its passes (`finetune.distributed.rank_zero`). Weights outside the layers, such as
embeddings, are replicated.
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

#: Methods that cannot be sharded, and why.
_WHOLE = {
    "dora": "it measures whole weights before it begins",
    "qlora": "weights of 4 bits are not cut into parts",
}
#: Gathered layers at a time: the one in use and the next one, which is prefetched.
AT_ONCE = 2


def fsdp_requested(method: str) -> bool:
    """Whether the launcher asks for FSDP (`accelerate launch --use_fsdp`).

    Raises Misuse for methods that cannot be sharded.
    """
    requested = os.environ.get("ACCELERATE_USE_FSDP", "").lower() in {"1", "true"}
    if not requested or from_environment().size == 1:
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
    """Shard the layers of a loaded model over the processes, and replicate the rest.

    The model may be on the CPU before, where it fits. Afterwards it has the dtype of `settings`,
    and is frozen unless all of it is to be trained.
    """
    import torch
    from torch.distributed import fsdp
    from torch.distributed.device_mesh import init_device_mesh

    # The newest of the functions used here.
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
        sharded: Any = fsdp.fully_shard(layer, mesh=mesh, reshard_after_forward=True)
        if trained:  # gradients are sums over all processes, as `all_reduce_sum` makes of the rest
            sharded.set_gradient_divide_factor(1.0)
            sharded.set_force_sum_reduction_for_comms(True)
    parts = {weight for layer in layers for weight in layer.parameters()}
    model.to(device)
    rest = {weight for weight in decoder.parameters() if weight not in parts}
    # The root has no sharded weights of its own, but orders the prefetching of its layers.
    fsdp.fully_shard(decoder, mesh=mesh, ignored_params=rest)
    with torch.no_grad():  # buffers made in inference mode could not be trained with
        smallest_pass(decoder, device)


def fsdp_root(model: Any) -> Any | None:
    """The FSDP root module, which all processes must call equally often; None if not sharded."""
    if not is_initialized():
        return None
    from torch.distributed.fsdp import FSDPModule

    return next((each for each in model.modules() if isinstance(each, FSDPModule)), None)


def in_use(model: Any) -> int:
    """Bytes of the layers that are gathered at once; 0 where the model is not sharded."""
    root = fsdp_root(model)
    if root is None:
        return 0
    from torch.distributed.fsdp import FSDPModule

    layers: Iterable[Any] = (each for each in root.modules() if isinstance(each, FSDPModule))
    sizes: list[int] = [sum(weight.nbytes for weight in each.parameters()) for each in layers]
    return AT_ONCE * max(sizes[1:])  # the first one is the root


def full_tensor(weight: torch.Tensor) -> torch.Tensor:
    """The whole of a weight, on the CPU if it was sharded; a collective operation then."""
    return weight.full_tensor().cpu() if is_part(weight) else weight  # type: ignore[attr-defined]


def copy_into(weight: torch.Tensor, numbers: torch.Tensor) -> None:
    """Copy a whole tensor into a weight, or this rank's shard of it."""
    if is_part(weight):
        from torch.distributed.tensor import distribute_tensor

        part: Any = weight
        numbers = distribute_tensor(
            numbers.to(part.device), part.device_mesh, part.placements, src_data_rank=None
        )
    weight.copy_(numbers)


def by_placement(weights: Iterable[torch.nn.Parameter]) -> list[list[torch.nn.Parameter]]:
    """Split parameters into plain tensors and DTensors, which torch does not mix in one call."""
    every = list(weights)
    kinds = ([weight for weight in every if is_part(weight) is part] for part in (False, True))
    return [kind for kind in kinds if kind]


def clip_gradients(weights: Iterable[torch.nn.Parameter], most: float) -> float:
    """Clip gradients, in place, to this norm; returns their norm before."""
    import torch
    from torch.nn.utils import clip_grads_with_norm_, get_total_norm

    kinds = by_placement(weights)
    norms = [full_tensor(get_total_norm([w.grad for w in k if w.grad is not None])) for k in kinds]
    norm = torch.stack([each.cpu() for each in norms]).norm()
    for kind in kinds:
        clip_grads_with_norm_(kind, most, norm.to(kind[0].device))
    return float(norm)


def smallest_pass(decoder: Any, device: Any) -> None:
    """A forward pass over one token, in which every layer is gathered once."""
    import torch

    decoder(input_ids=torch.zeros(1, 1, dtype=torch.long, device=device), use_cache=False)


def layers_of(model: Any) -> list[Any]:
    """The outermost modules that the architecture declares as not to be split."""
    names = set(model._no_split_modules or ())
    layers: list[Any] = []
    nested: set[Any] = set()
    for each in model.base_model.modules():  # those outside come first
        if type(each).__name__ in names and each not in nested:
            layers.append(each)
            nested.update(each.modules())
    return layers
