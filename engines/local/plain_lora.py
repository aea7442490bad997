"""Plain LoRA as PEFT configures it: W + s·B·A on linear layers and nothing else (Hu et al. 2021).

It is what passes with several adapters and LoRA files in GGUF can compute.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

#: Keys of PEFT's LoraConfig that, where they are set, make an adapter more than plain LoRA.
EXTENSIONS = {
    "modules_to_save": "modules that were trained in full",
    "trainable_token_indices": "trained tokens",
    "target_parameters": "adapted parameters outside of layers",
    "layer_replication": "replicated layers",
    "fan_in_fan_out": "transposed layers",
    "lora_bias": "trained biases",
    "use_dora": "DoRA's magnitudes",
    "alora_invocation_tokens": "tokens that call it",
    "arrow_config": "several adapters in one",
    "kasa_config": "singular values of its own",
    "monteclora_config": "sampled weights",
    "use_bdlora": "weights in blocks",
    "use_qalora": "pooled inputs",
    "megatron_config": "layers of Megatron",
}


def lora_extension(config: Mapping[str, Any]) -> str | None:
    """Name what a PEFT configuration has beyond plain LoRA; None where it has nothing."""
    kind = config.get("peft_type")
    kind = str(getattr(kind, "value", kind))
    if kind != "LORA":
        return f"an adapter of kind `{kind}`"
    if config.get("bias", "none") != "none":
        return "trained biases (`bias`)"
    return next((f"{what} (`{key}`)" for key, what in EXTENSIONS.items() if config.get(key)), None)
