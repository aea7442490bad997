"""Activation memory: bytes kept for the backward pass, counted without computing anything.

The model is built without numbers (torch's meta device), and one row goes through it there,
forward and backward, while the bytes of all tensors that are alive are counted.
"""

from __future__ import annotations

import copy
import weakref
from dataclasses import replace
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode

from finetune.adapters.methods import attach, trainable
from finetune.training.attention import groups, rows_apart
from finetune.training.settings import TrainingArguments

_PROBE = 128
#: Bytes per weight in 4 bits: NF4 with scales that are quantised once more (QLoRA, 2305.14314).
_FOUR_BIT = 0.516


def count_activations(config: Any, settings: TrainingArguments, layers: int) -> dict[str, float]:
    """The bytes and counts of `finetune.memory.estimate.Sizes`, for a model of so many layers."""
    hollow = _hollow(config, settings, layers)
    linear = _linear(hollow)
    weights: float = sum(p.numel() * p.itemsize for p in hollow.parameters())
    method = settings.method
    if method == "qlora":
        method, weights = "lora", weights - linear * (hollow.dtype.itemsize - _FOUR_BIT)
    with torch.random.fork_rng(devices=[]):
        live = attach(hollow, replace(settings, method=method, dtype="auto")).train()
    trained = sum(p.numel() for p in trainable(live).values())
    counts = {"weights": weights + 4 * trained, "early": 4.0 * trained, "late": 4.0 * trained}
    growing = _growing(live)
    return counts | growing | {"linear": linear, "trained": trained, "base": weights}


def work_dtype(config: Any, settings: TrainingArguments) -> torch.dtype:
    """The dtype of most of the work."""
    if settings.dtype != "auto":
        return getattr(torch, settings.dtype)  # type: ignore[no-any-return]
    dtype = getattr(config, "dtype", None)
    return dtype if isinstance(dtype, torch.dtype) else torch.float32


def _growing(live: Any) -> dict[str, float]:
    """Bytes per token and constant bytes: a line through two lengths."""
    (kept, more), (kept_twice, more_twice) = (_passed(live, n) for n in (_PROBE, 2 * _PROBE))
    return {
        "kept": (kept_twice - kept) / _PROBE,
        "always": 2 * kept - kept_twice,
        "working": (more_twice - more) / _PROBE,
        "least": 2 * more - more_twice,
    }


def _hollow(config: Any, settings: TrainingArguments, layers: int) -> Any:
    from transformers import AutoModelForCausalLM

    few = copy.deepcopy(config)
    text = few.get_text_config()
    text.num_hidden_layers = layers
    if getattr(text, "layer_types", None):
        text.layer_types = (list(text.layer_types) * layers)[:layers]
    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(few, dtype=work_dtype(config, settings))


def _passed(live: Any, length: int) -> tuple[float, float]:
    """Bytes that one row keeps for the backward pass, and that this needs beside; no logits."""
    ids = torch.zeros(1, length, dtype=torch.long, device="meta")
    # Nothing can be looked at: a mask keeps transformers from searching positions for packed rows.
    call = {
        "attention_mask": torch.ones_like(ids),
        "rows": groups([length], "meta"),
        "logits_to_keep": 1,
        "use_cache": False,
    }
    hooks = [
        weight.register_post_accumulate_grad_hook(_forget)
        for weight in live.parameters()
        if weight.requires_grad
    ]
    with rows_apart(live), _Alive(live) as count:
        loss = live(input_ids=ids, **call).logits.sum()
        kept = count.now
        loss.backward()
    for hook in hooks:
        hook.remove()
    return float(kept), float(count.most - kept)


def _forget(weight: torch.Tensor) -> None:
    """Gradients are counted by themselves."""
    weight.grad = None


class _Alive(TorchDispatchMode):
    """Counts the bytes of tensors made in it: alive `now`, and at `most`."""

    def __init__(self, live: Any) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.now = self.most = 0
        self._known = {p.untyped_storage()._cdata: 0 for p in live.parameters()}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        made = func(*args, **({} if kwargs is None else kwargs))
        for each in made if isinstance(made, tuple | list) else (made,):
            if isinstance(each, torch.Tensor):
                self._enter(each.untyped_storage())
        return made

    def _enter(self, storage: Any) -> None:
        key = storage._cdata
        if key not in self._known:
            self._known[key] = storage.nbytes()
            self.now += self._known[key]
            self.most = max(self.most, self.now)
            weakref.finalize(storage, self._leave, key)

    def _leave(self, key: int) -> None:
        self.now -= self._known.pop(key, 0)


def _linear(model: Any) -> int:
    head = model.get_output_embeddings()
    return sum(
        module.weight.numel()
        for module in model.modules()
        if isinstance(module, torch.nn.Linear) and module is not head
    )
