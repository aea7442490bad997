"""Precision of a training: whether its passes are autocast to bfloat16."""

from __future__ import annotations

from functools import cache
from typing import Any

import torch

from finetune.training.settings import TrainingArguments

#: Width from which a processor's products in bfloat16 gain more than the casts cost.
_WIDE = 512


def autocasts(config: Any, settings: TrainingArguments, dtype: torch.dtype, device: str) -> bool:
    """Whether passes over a base of this dtype are autocast to bfloat16 on a device.

    On CUDA that is so where the base works in bfloat16. A processor with instructions for
    bfloat16 is twice as fast with them (SmolLM2-135M, one core with AVX-512: 163 against 81 tokens
    per second), so `auto` takes them for wide models; the weights stay in float32.
    """
    half = settings.dtype == "bfloat16" or (settings.dtype == "auto" and dtype == torch.bfloat16)
    kind = device.split(":")[0]
    if kind == "cuda":
        return half
    wide = config.get_text_config().hidden_size >= _WIDE
    fast = kind == "cpu" and settings.dtype == "auto" and dtype == torch.float32
    return fast and wide and native_bfloat16()


@cache
def native_bfloat16() -> bool:
    """Whether this processor has instructions for products in bfloat16."""
    return any(there for name, there in torch.cpu.get_capabilities().items() if "bf16" in name)
