"""Models of a command: the engine that answers, and the model that is trained."""

from __future__ import annotations

import gc
import os
from dataclasses import dataclass
from typing import TYPE_CHECKING

from domainlift.activity import activity
from domainlift.errors import Misuse
from engines.base import TrainableEngine
from engines.local.engine import TransformersEngine
from engines.registry import EngineOptions, is_dequantised, open_engine, source, weights_name
from finetune.distributed.fsdp import fsdp_requested, shard_model
from finetune.distributed.process_group import join_group, own_device
from reports.terminal import print_note

if TYPE_CHECKING:
    from engines.base import Engine
    from finetune.training.settings import TrainingArguments


@dataclass(frozen=True)
class ModelSpec:
    """Which model is loaded, and how."""

    model: str
    device: str
    dtype: str


class LazyEngine:
    """An engine that is opened when it is needed, and closed while others need its memory."""

    def __init__(self, spec: ModelSpec) -> None:
        self.spec = spec
        self._engine: Engine | None = None

    @property
    def engine(self) -> Engine:
        """The open engine."""
        if self._engine is None:
            spec = self.spec
            with activity(f"loading `{spec.model}`"):
                self._engine = open_engine(spec.model, EngineOptions(spec.device, spec.dtype))
        return self._engine

    def close(self) -> None:
        """Close the engine, and free the memory of a model in this process."""
        if self._engine is not None:
            self._engine.close()
        self._engine = None


def load_trainable(spec: ModelSpec, settings: TrainingArguments) -> TrainableEngine:
    """Open the model in this process, whatever serves it, or a part of it in each of several.

    Each training opens it anew: a full one changes it.
    """
    sharded = fsdp_requested(settings.method)
    name, shown = _weights(spec.model)
    device = own_device(spec.device)
    with activity(f"loading `{shown}`"):
        if sharded:
            return _sharded(name, shown, device, spec.dtype, settings)
        if settings.method == "qlora":
            return _four_bit(name, shown, device)
        return _whole(name, shown, EngineOptions(device, spec.dtype))


def _weights(model: str) -> tuple[str, str]:
    """The name of the weights that are trained, and the one that is shown for them.

    A note says where they are not the model's own.
    """
    if not is_dequantised(model):
        name = weights_name(model)
        if name != model:
            print_note(f"training takes the weights of `{name}`")
        return name, name
    print_note(f"training takes the dequantised weights of `{model}`, made once and kept")
    with activity(f"reading the weights of `{model}`"):
        return weights_name(model), model


def _whole(name: str, shown: str, options: EngineOptions) -> TrainableEngine:
    engine = (
        open_engine(name, options)
        if name == shown
        else TransformersEngine.load(name, device=options.device, dtype=options.dtype, shown=shown)
    )
    if not isinstance(engine, TrainableEngine):
        raise Misuse(f"`{name}` is not held by this process", "give a folder or a name on the hub")
    return engine


def _sharded(
    name: str, shown: str, device: str, dtype: str, settings: TrainingArguments
) -> TrainableEngine:
    import torch

    from engines.local.loading import load_model, model_digest, pick_device, pick_dtype

    folder, chosen = source(name), pick_device(device)
    kind = str(pick_dtype(dtype, chosen)).removeprefix("torch.")
    # Parts of the model before hold on to one another: they would stay on the device.
    gc.collect()
    # Where this is on, as accelerate has it, transformers leaves the weights empty in all processes
    # but the first. Nothing here wants that, so it stays off.
    os.environ["FSDP_CPU_RAM_EFFICIENT_LOADING"] = "false"
    model, tokenizer = load_model(folder, device="cpu", dtype=kind)
    place = torch.device(chosen)
    shard_model(model, place, join_group(place), settings)
    return TransformersEngine(model, tokenizer, name=shown, digest=model_digest(folder, model))


def _four_bit(name: str, shown: str, device: str) -> TrainableEngine:
    from engines.local.loading import load_config_and_tokenizer, model_digest
    from finetune.adapters.methods import four_bit

    folder = source(name)
    _, tokenizer = load_config_and_tokenizer(folder, device="cpu")
    model = four_bit(folder, device)
    return TransformersEngine(model, tokenizer, name=shown, digest=model_digest(folder, model))
