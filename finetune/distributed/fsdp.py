"""Fully sharded data parallel (FSDP): each process keeps a shard of every layer's weights.

A layer is gathered where it is computed, and freed again. So no process can make a pass alone: in
a step all make equally many (`ProcessGroup.all_reduce_max`), and where rank 0 works by itself the
others follow its passes (`finetune.distributed.rank_zero`). Weights outside the layers, such as
embeddings, are replicated.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

import torch
from torch.distributed import fsdp
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import FSDPModule
from torch.distributed.tensor import DTensor
from transformers import PreTrainedModel

from domainlift.errors import Misuse
from finetune.distributed.process_group import ProcessGroup, from_environment, is_initialized
from finetune.training.settings import TrainingArguments

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
    and is frozen.
    """
    mesh = init_device_mesh(device.type, (team.size,))
    if settings.dtype != "auto":
        model.to(getattr(torch, settings.dtype))
    decoder: Any = model.requires_grad_(False).base_model
    layers = layers_of(model)
    if not layers:
        raise Misuse(
            f"{type(model).__name__} does not say which of its layers can be shared out",
            "leave out `--use_fsdp`",
        )
    for layer in layers:
        fsdp.fully_shard(layer, mesh=mesh, reshard_after_forward=True)
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
    return next((each for each in model.modules() if isinstance(each, FSDPModule)), None)


def in_use(model: Any) -> int:
    """Bytes of the layers that are gathered at once; 0 where the model is not sharded."""
    root = fsdp_root(model)
    if root is None:
        return 0
    layers: Iterable[Any] = (each for each in root.modules() if isinstance(each, FSDPModule))
    sizes: list[int] = [sum(weight.nbytes for weight in each.parameters()) for each in layers]
    return AT_ONCE * max(sizes[1:])  # the first one is the root


def full_tensor(weight: torch.Tensor) -> torch.Tensor:
    """The whole of a weight, on the CPU if it was sharded; a collective operation then."""
    return weight.full_tensor().cpu() if isinstance(weight, DTensor) else weight


def smallest_pass(decoder: Any, device: Any) -> None:
    """A forward pass over one token, in which every layer is gathered once."""
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
