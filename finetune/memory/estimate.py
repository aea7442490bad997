"""Memory estimate of a training, without running it.

Two and three layers are counted (`finetune.memory.activation_memory`), and the difference is one
layer. So the figure follows the code that runs, whatever the architecture and the method. On CUDA
the work over a base in bfloat16 keeps up to a fifth less than is counted.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from importlib import import_module
from typing import Any

from finetune.data.rows import Row
from finetune.distributed.fsdp import AT_ONCE
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


@dataclass(frozen=True)
class Sizes:
    """Bytes and counts of a model with its adapter, and what grows with tokens.

    weights      bytes of the base with its adapter
    trained      parameters that are trained; linear: weights of the body's linear layers
    body         bytes of the layers without the adapter
    early, late  bytes of gradients when activations are at their most, and at the end
    kept, layer  bytes per token that autograd keeps: in all layers, in one
    always       bytes that autograd keeps however few the tokens, all layers
    working      bytes per token that the backward pass needs beside them; least: and always
    hidden, widest   entries of a hidden state, and of the widest activation
    vocabulary, layers, itemsize   of the model
    casts        passes over weights in float32 are autocast to bfloat16
    """

    weights: int
    trained: int
    linear: int
    body: int
    early: int
    late: int
    kept: float
    layer: float
    always: float
    working: float
    least: float
    hidden: int
    widest: int
    vocabulary: int
    layers: int
    itemsize: int
    casts: bool = False

    def activations(self, tokens: int, trained: int, recompute: bool) -> float:
        """Peak bytes of one pack: what is kept, and the larger of logits and one layer's work."""
        kept = self.kept * tokens + self.always
        if recompute:
            inputs = self.layers * self.hidden * self.itemsize
            kept = (inputs + self.layer) * tokens + self.always / self.layers
        logits = (trained * self.itemsize + min(trained, _SLICE) * 4) * self.vocabulary
        return kept + max(logits, self.working * tokens + self.least)

    def shared(self, processes: int) -> Sizes:
        """The sizes of one process where so many shard the layers."""
        if processes == 1:
            return self
        elsewhere = self.body * (1 - 1 / processes)
        resident = self.weights - elsewhere + AT_ONCE * self.body / self.layers
        return replace(self, weights=round(resident))

    def peak(self, tokens: int, trained: int, recompute: bool) -> float:
        """Peak bytes with weights, gradients and AdamW's two moments, these in float32."""
        resident = self.weights + 2 * 4 * self.trained
        return resident + max(self.early + self.activations(tokens, trained, recompute), self.late)


def model_sizes(config: Any, settings: TrainingArguments, device: str = "cpu") -> Sizes:
    """Sizes of a model with an adapter, from its configuration, for a training on a device."""
    import torch

    from finetune.memory.activation_memory import count_activations, work_dtype

    text = config.get_text_config()
    layers, hidden = int(text.num_hidden_layers), int(text.hidden_size)
    dtype = work_dtype(config, settings)
    casts = dtype == torch.float32 and autocasts(config, settings, dtype, device)
    two, three = (count_activations(config, settings, number) for number in (2, 3))
    whole = {key: two[key] + (three[key] - two[key]) * (layers - 2) for key in two}
    return Sizes(
        weights=int(whole["weights"]),
        trained=int(whole["trained"]),
        linear=int(whole["linear"]),
        body=int(layers * (three["base"] - two["base"])),
        early=int(whole["early"]),
        late=int(whole["late"]),
        kept=whole["kept"],
        layer=three["kept"] - two["kept"],
        # Autocast keeps what it made of the weights.
        always=whole["always"] + 2 * whole["linear"] * casts,
        working=three["working"],
        least=three["least"],
        hidden=hidden,
        widest=max(getattr(text, "intermediate_size", None) or 0, hidden),
        vocabulary=int(text.vocab_size),
        layers=layers,
        itemsize=dtype.itemsize,
        casts=casts,
    )


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
    import torch

    if str(device).startswith("cuda"):
        return int(torch.cuda.mem_get_info(device)[0])
    return int(_psutil().virtual_memory().available)


def peak_bytes(device: Any) -> int:
    """Peak memory of this process in bytes: on the accelerator, or resident."""
    if str(device).startswith("cuda"):
        import torch

        return int(torch.cuda.max_memory_allocated(device))
    if sys.platform == "win32":
        return int(_psutil().Process().memory_info().peak_wset)
    import resource

    factor = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * factor


def return_freed(short: bool = False) -> None:
    """Let glibc return large blocks to the system when they are freed; nothing elsewhere.

    It would keep those of up to 32 MiB for later, and packs of changing sizes tear holes into what
    it keeps: up to 0.9 GiB was measured with a model of 2 GiB. Fresh pages take about 3 % of the
    time. Where memory is `short`, smaller blocks are returned too: that takes a tenth
    to a fifth of the time, and saved 0.5 GiB of 2.6 where activations are recomputed.
    """
    import ctypes

    if sys.platform == "linux":
        # musl and others have no such function.
        with contextlib.suppress(AttributeError):
            ctypes.CDLL(None).mallopt(_MMAP_THRESHOLD, _MAPPED_SOONER if short else _MAPPED)


def synchronize(device: Any) -> None:
    """Synchronise an accelerator."""
    import torch

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
    return max(least, min(most, int(_CPU_KEPT / max(1.0, sizes.kept))))


def _psutil() -> Any:
    return import_module("psutil")  # it comes with accelerate, and without types
