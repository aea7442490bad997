"""Training of one adapter while its progress is shown, on a model that is opened for it.

Imports torch, so it is imported when a training begins.
"""

from __future__ import annotations

import gc
import os

import torch

from domainlift.activity import activity
from domainlift.errors import Misuse
from engines.base import TrainableEngine
from engines.local.engine import TransformersEngine
from engines.local.loading import (
    load_config_and_tokenizer,
    load_model,
    model_digest,
    pick_device,
    pick_dtype,
)
from engines.registry import EngineOptions, is_dequantised, open_engine, source, weights_name
from finetune.adapters.methods import four_bit
from finetune.distributed.fsdp import fsdp_requested, shard_model
from finetune.distributed.process_group import join_group, own_device
from finetune.jobs import TrainingJob
from finetune.train_adapter import TrainingResult, train_adapter
from finetune.training.settings import TrainingArguments
from improve.load_model import ModelSpec
from reports.terminal import print_note
from reports.training import training_progress


def train_with_progress(job: TrainingJob, spec: ModelSpec) -> TrainingResult:
    """Open the model, train the adapter of a job, and publish it; raises as `train_adapter`."""
    engine = load_trainable(spec, job.settings)
    with training_progress() as view:
        on_validation = view.on_validation(job.name)
        return train_adapter(job, engine, view.on_progress, on_validation, view.on_replay)


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
    folder = source(name)
    _, tokenizer = load_config_and_tokenizer(folder, device="cpu")
    model = four_bit(folder, device)
    return TransformersEngine(model, tokenizer, name=shown, digest=model_digest(folder, model))
