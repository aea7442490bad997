"""The weights that are trained: held by this process, or a part of them by each of several."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domainlift.errors import Misuse

if TYPE_CHECKING:
    from engines.base import TrainableEngine
    from finetune.training.settings import TrainingArguments


@dataclass(frozen=True)
class ModelSpec:
    """Which model is loaded, and how."""

    model: str
    device: str
    dtype: str


def load_trainable(loading: ModelSpec, settings: TrainingArguments) -> TrainableEngine:
    """Open the model in this process, whatever serves it, or a part of it in each of several.

    Each training opens it anew: a full one changes it.
    """
    from engines.base import TrainableEngine
    from engines.registry import EngineOptions, open_engine, weights_name
    from finetune.distributed import fsdp as sharding
    from finetune.distributed.process_group import own_device

    parts = sharding.fsdp_requested(settings.method)
    name = weights_name(loading.model)
    if name != loading.model:
        print(f"note: training takes the weights of `{name}`", file=sys.stderr)
    device = own_device(loading.device)
    if parts:
        return _shared_out(name, device, loading.dtype, settings)
    if settings.method == "qlora":
        return _four_bit(name, device)
    engine = open_engine(name, EngineOptions(device, loading.dtype))
    if not isinstance(engine, TrainableEngine):
        raise Misuse(f"`{name}` is not held by this process", "give a folder or a name on the hub")
    return engine


def _shared_out(name: str, device: str, dtype: str, settings: TrainingArguments) -> TrainableEngine:
    import torch

    from engines.local.engine import TransformersEngine
    from engines.local.loading import load_model, model_digest, pick_device, pick_dtype
    from engines.registry import source
    from finetune.distributed.fsdp import shard_model
    from finetune.distributed.process_group import join_group

    found, chosen = source(name), pick_device(device)
    kind = str(pick_dtype(dtype, chosen)).removeprefix("torch.")
    # Parts of the model before hold on to one another: they would stay on the device.
    gc.collect()
    # Where this is on, as accelerate has it, transformers leaves the weights empty in all processes
    # but the first. Nothing here wants that, so it stays off.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    model, tokenizer = load_model(found, device="cpu", dtype=kind)
    place = torch.device(chosen)
    shard_model(model, place, join_group(place), settings)
    return TransformersEngine(model, tokenizer, name=name, digest=model_digest(found, model))


def _four_bit(name: str, device: str) -> TrainableEngine:
    from engines.local.engine import TransformersEngine
    from engines.local.loading import load_config_and_tokenizer, model_digest
    from engines.registry import source
    from finetune.adapters.methods import four_bit

    found = source(name)
    _, tokenizer = load_config_and_tokenizer(found, device="cpu")
    model = four_bit(found, device)
    return TransformersEngine(model, tokenizer, name=name, digest=model_digest(found, model))
