"""Memory estimate of a training, without running it."""

from __future__ import annotations

import contextlib
import copy
import ctypes
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

import torch
from transformers import AutoModelForCausalLM

from domainlift.process_memory import peak_resident
from finetune.adapters.methods import attach, trainable
from finetune.data.rows import Row
from finetune.distributed.fsdp import AT_ONCE, layers_of
from finetune.training.packing import PackLimits, most_trained
from finetune.training.precision import autocasts
from finetune.training.settings import TrainingArguments
from finetune.training.tokenize import Encoded

_MOST_TOKENS = 65_536
#: On a processor a product of 512 rows runs at full rate. More tokens at once only spare calls, and
#: only while what is kept for them is small: for a small model.
_CPU_TOKENS, _CPU_KEPT = (512, 2048), 2**28
#: What of the free memory is planned for; the rest is for what others take meanwhile.
_SHARE = 0.7
#: Positions whose logits the loss looks at together, see `finetune.training.loss`.
_SLICE = 64
#: M_MMAP_THRESHOLD of malloc.h; from how many bytes on a block is mapped by itself, and where
#: memory is short.
_MMAP_THRESHOLD, _MAPPED, _MAPPED_SOONER = -3, 2**22, 2**20
_NO_ROW = Row("", "", "")
#: Bytes per weight in 4 bits: NF4 with scales that are quantised once more (QLoRA, 2305.14314).
_FOUR_BIT = 0.516


@dataclass(frozen=True)
class Sizes:
    """Bytes and counts of a model with its adapter.

    weights   bytes of the base with its adapter; body: of the base's layers
    trained   parameters that are trained; linear: weights of the body's linear layers
    kept      bytes per token and layer that autograd keeps
    working   bytes per token that the backward pass needs beside them
    always    bytes that a pass takes however few its tokens
    hidden, widest   entries of a hidden state, and of the widest activation
    vocabulary, layers, itemsize   of the model
    casts     passes over weights in float32 are autocast to bfloat16
    """

    weights: int
    body: int
    trained: int
    linear: int
    kept: float
    working: float
    always: float
    hidden: int
    widest: int
    vocabulary: int
    layers: int
    itemsize: int
    casts: bool = False

    def activations(self, tokens: int, trained: int, recompute: bool) -> float:
        """Peak bytes of one pack: what is kept, and the larger of logits and one layer's work."""
        each = self.layers * self.hidden * self.itemsize + self.kept
        kept = (each if recompute else self.layers * self.kept) * tokens
        logits = (trained * self.itemsize + min(trained, _SLICE) * 4) * self.vocabulary
        return self.always + kept + max(logits, self.working * tokens)

    def shared(self, processes: int) -> Sizes:
        """The sizes of one process where so many shard the layers."""
        if processes == 1:
            return self
        resident = self.weights - self.body * (1 - 1 / processes - AT_ONCE / self.layers)
        return replace(self, weights=round(resident))

    def peak(self, tokens: int, trained: int, recompute: bool) -> float:
        """Peak bytes with weights, gradients and AdamW's two moments, these in float32."""
        held = self.weights + 3 * 4 * self.trained
        return held + self.activations(tokens, trained, recompute)


def model_sizes(config: Any, settings: TrainingArguments, device: str = "cpu") -> Sizes:
    """Sizes of a model with an adapter, from its configuration, for a training on a device.

    What autograd keeps was counted for gated decoders (Llama, Qwen2) with LoRA on all linear
    layers, and is that but for 1 %; DoRA takes twice as much, and works on whole weights.
    """
    text = config.get_text_config()
    layers, hidden, heads = text.num_hidden_layers, text.hidden_size, text.num_attention_heads
    widest = max(getattr(text, "intermediate_size", None) or 0, hidden)
    head = getattr(text, "head_dim", None) or hidden // heads
    keys = head * (getattr(text, "num_key_value_heads", None) or heads)
    dtype = _work_dtype(config, settings)
    casts = dtype == torch.float32 and autocasts(config, settings, dtype, device)
    half = dtype.itemsize == 2
    entries = 9 * hidden + 2.5 * widest + keys if half else 7 * hidden + 4 * widest + 2 * keys
    dora = settings.method == "dora"
    one, two = (_counts(config, settings, dtype, number) for number in (1, 2))
    whole = {key: one[key] + (two[key] - one[key]) * (layers - 1) for key in one}
    return Sizes(
        **{key: int(count) for key, count in whole.items()},
        kept=4 * (1 + dora) * (entries + 7 * settings.rank),
        working=4 * 2 * widest,
        # Autocast keeps what it made of the weights.
        always=2 * whole["linear"] * casts + 4 * 8 * hidden * widest * dora,
        hidden=hidden,
        widest=widest,
        vocabulary=text.vocab_size,
        layers=layers,
        itemsize=dtype.itemsize,
        casts=casts,
    )


def _counts(
    config: Any, settings: TrainingArguments, dtype: torch.dtype, layers: int
) -> dict[str, float]:
    """Weights and parameters of a model of so many layers, made without numbers."""
    few = copy.deepcopy(config)
    text = few.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = (list(text.layer_types) * layers)[:layers]
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(few, dtype=dtype)
    head = model.get_output_embeddings()
    linear = sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
    weights: float = sum(p.nbytes for p in model.parameters())
    body = sum(p.nbytes for layer in layers_of(model) for p in layer.parameters())
    method = settings.method
    if method == "qlora":
        method, weights = "lora", weights - linear * (dtype.itemsize - _FOUR_BIT)
    with torch.random.fork_rng(devices=[]):
        live = attach(model, replace(settings, method=method, dtype="auto"))
    trained = sum(p.numel() for p in trainable(live).values())
    weights += 4 * trained
    return {"weights": weights, "body": body, "trained": trained, "linear": linear}


def _work_dtype(config: Any, settings: TrainingArguments) -> torch.dtype:
    """The dtype of most of the work."""
    if settings.dtype != "auto":
        return getattr(torch, settings.dtype)  # type: ignore[no-any-return]
    dtype = getattr(config, "dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def plan_memory(
    sizes: Sizes, settings: TrainingArguments, longest: int, device: str, taken: int = 0
) -> tuple[PackLimits, bool]:
    """Plan the tokens per pass, and whether activations are recomputed.

    Settings decide where they say something, free memory where they do not: activations are kept
    while the longest row fits. Of the free memory so many bytes are `taken` whatever is planned.
    """
    room = _SHARE * free_bytes(device) - taken - 4 * 4 * sizes.trained
    trained = most_trained(sizes.vocabulary)
    least = longest if settings.micro_batch is None else max(longest, settings.micro_batch)
    recompute = settings.checkpointing
    if recompute is None:
        recompute = sizes.activations(least, trained, False) > room
    if settings.micro_batch is not None:
        return PackLimits(settings.micro_batch, trained), recompute
    base, one = (sizes.activations(n, trained, recompute) for n in (0, 1))
    fitting = int((room - base) / max(1.0, one - base))
    return PackLimits(max(longest, min(_useful(sizes, device), fitting)), trained), recompute


def free_bytes(device: Any) -> int:
    """Free memory of a device, in bytes."""
    if str(device).startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    # It comes with accelerate, and without types.
    return int(import_module("psutil").virtual_memory().available)


def peak_bytes(device: Any) -> int:
    """Peak memory of this process in bytes: on the accelerator, or resident."""
    if str(device).startswith("cuda"):
        return int(torch.cuda.max_memory_allocated(device))
    return peak_resident()


def return_freed(short: bool = False) -> None:
    """Let glibc return large blocks to the system when they are freed; nothing elsewhere.

    It would keep those of up to 32 MiB for later, and packs of changing sizes tear holes into what
    it keeps: up to 0.9 GiB was measured with a model of 2 GiB. Fresh pages take about 3 % of the
    time. Where memory is `short`, smaller blocks are returned too: that takes a tenth
    to a fifth of the time, and saved 0.5 GiB of 2.6 where activations are recomputed.
    """
    if sys.platform == "linux":
        # musl and others have no such function.
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _MAPPED_SOONER if short else _MAPPED)


def synchronize(device: Any) -> None:
    """Synchronise an accelerator."""
    if str(device).startswith("cuda"):
        torch.cuda.synchronize(device)


def dummy_rows(lengths: Sequence[tuple[int, int]]) -> list[Encoded]:
    """Rows without content, of so many tokens of which so many are trained."""
    return [Encoded((0,) * n, n - trained, _NO_ROW) for n, trained in lengths]


def _useful(sizes: Sizes, device: str) -> int:
    """Tokens per pass beyond which speed gains nothing."""
    if device.split(":")[0] != "cpu":
        return _MOST_TOKENS
    least, most = _CPU_TOKENS
    return max(least, min(most, int(_CPU_KEPT / max(1.0, sizes.layers * sizes.kept))))
