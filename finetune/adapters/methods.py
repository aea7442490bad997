"""PEFT methods: attach an adapter to a model, and detach it."""

from __future__ import annotations

import hashlib
from importlib.util import find_spec
from typing import Any

import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModelForCausalLM, BitsAndBytesConfig

from domainlift.errors import BenchError, Misuse, NoSuch
from engines.local.loading import quiet_peft
from finetune.distributed.fsdp import full_tensor
from finetune.training.settings import TrainingArguments

#: Names for groups of layers, as the architectures in use call them.
GROUPS = {
    "attention": ("q_proj", "k_proj", "v_proj", "o_proj"),
    "mlp": ("gate_proj", "up_proj", "down_proj"),
}

#: How many numbers of each weight tell one base from another.
_FEW = 16


def attach(model: Any, settings: TrainingArguments, task: str = "CAUSAL_LM") -> Any:
    """A model whose trainable parameters are the method's, and no others.

    The base is changed in place (`detach` undoes it, but for the type of its weights where
    `dtype` is set). The numbers that the adapter begins with depend on the seed alone.
    """
    torch.manual_seed(settings.seed)
    if settings.dtype != "auto":
        model = model.to(getattr(torch, settings.dtype))
    if model.dtype == torch.float16:
        raise Misuse(
            "in float16 small gradients vanish, so there is no training in it",
            "set `dtype: bfloat16`, or `dtype: float32` where the device has no bfloat16",
        )
    if settings.method == "qlora" and not getattr(model, "is_loaded_in_4bit", False):
        raise Misuse(
            "qlora needs the base model in 4 bits",
            "load it with `finetune.adapters.methods.four_bit`",
        )
    try:
        with quiet_peft():
            return get_peft_model(model, _lora_config(model, settings, task))
    except ValueError as error:
        first = " ".join(str(error).split())[:200]
        what = f"`{settings.method}` does not fit this model: {first}"
        raise Misuse(what, "name its layers in `targets`, or choose `method: lora`") from error


def detach(live: Any) -> Any:
    """The base model as it was, still frozen."""
    return live.unload() if hasattr(live, "peft_config") else live


def trainable(live: Any) -> dict[str, Any]:
    """The parameters that are trained, by name."""
    return {name: weight for name, weight in live.named_parameters() if weight.requires_grad}


def recompute(live: Any, on: bool = True) -> None:
    """Switch activation checkpointing of all layers on or off."""
    base = live.get_base_model() if hasattr(live, "peft_config") else live
    if not on:
        if _has(base, "is_{}_checkpointing"):
            _has(base, "{}_checkpointing_disable")()
        return
    if not _has(base, "supports_{}_checkpointing"):
        raise Misuse(
            f"{type(base).__name__} cannot compute activations again",
            "leave `checkpointing` off, and set `max_tokens` lower where memory does not suffice",
        )
    _has(base, "{}_checkpointing_enable")({"use_reentrant": False})


def weights_fingerprint(model: Any) -> str:
    """A hash of the shapes and of a few numbers of every weight: which base this is."""
    digest = hashlib.sha256()
    for name, weight in model.named_parameters():
        flat = full_tensor(weight.detach()).flatten()
        few = flat[:: max(1, len(flat) // _FEW)][:_FEW].float().tolist()
        digest.update(f"{name} {tuple(weight.shape)} {few}\n".encode())
    return digest.hexdigest()


def four_bit(name: str, device: str = "auto") -> Any:
    """Load a base model in 4 bits (NF4, computing in bfloat16) for `qlora`."""
    if find_spec("bitsandbytes") is None:
        raise BenchError(
            "training over 4-bit weights needs bitsandbytes",
            "`pip install bitsandbytes` (CUDA), or use `method: lora`",
        )
    bits = BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=torch.bfloat16,
    )
    return AutoModelForCausalLM.from_pretrained(
        name,
        quantization_config=bits,
        device_map=device,
        use_safetensors=True,
        trust_remote_code=False,
    )


def _lora_config(model: Any, settings: TrainingArguments, task: str) -> Any:
    return LoraConfig(
        task_type=task,
        r=settings.rank,
        lora_alpha=settings.scale,
        lora_dropout=settings.dropout,
        target_modules=_targets(model, settings),
        use_rslora=settings.method == "rslora",
        use_dora=settings.method == "dora",
    )


def _targets(model: Any, settings: TrainingArguments) -> Any:
    """The layers' names, groups resolved; all linear layers but the output by default."""
    if not settings.targets:
        return "all-linear"
    layers = {
        name.rpartition(".")[2]
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear)
    }
    chosen = []
    for target in settings.targets:
        for name in GROUPS.get(target, (target,)):
            if name not in layers:
                raise NoSuch("linear layer", name, {*layers, *GROUPS})
            chosen.append(name)
    return sorted(set(chosen))


def _has(base: Any, name: str) -> Any:
    """What older versions call `gradient_…` and newer ones `activation_…`; None without either."""
    value = getattr(base, name.format("activation"), None)
    return getattr(base, name.format("gradient"), None) if value is None else value
