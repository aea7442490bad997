"""Small random models of true architectures, and LoRA adapters for them, as folders."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def make_base(folder: Path, kind: str = "Qwen2", seed: int = 0, **settings: Any) -> Path:
    """Save a random model of an architecture with the embedded tokenizer."""
    import torch
    import transformers

    from engines.registry import tiny_folder

    shape: dict[str, Any] = {
        "vocab_size": 2048,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 16,
        "max_position_embeddings": 512,
        "bos_token_id": None,
        "eos_token_id": 0,
        "pad_token_id": 0,
        "tie_word_embeddings": kind == "Qwen2",
        # So that answers differ from prompt to prompt.
        "initializer_range": 0.2,
    }
    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(**(shape | settings))
    model = getattr(transformers, f"{kind}ForCausalLM")(config)
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if name.endswith("bias"):
                weight.normal_(0, 0.2)
    model.save_pretrained(folder)
    transformers.AutoTokenizer.from_pretrained(str(tiny_folder())).save_pretrained(folder)
    return folder


def make_adapter(folder: Path, base: Path, seed: int = 0, **settings: Any) -> Path:
    """Save a random LoRA adapter for a base, as PEFT writes it."""
    import peft
    import torch

    from engines.local.loading import load_model

    model, _ = load_model(str(base), device="cpu")
    torch.manual_seed(seed)
    plain = {
        "r": 4,
        "lora_alpha": 8,
        "target_modules": "all-linear",
        "task_type": "CAUSAL_LM",
    }
    config = peft.LoraConfig(**(plain | settings))
    wrapped = peft.get_peft_model(model, config)
    with torch.no_grad():
        for name, weight in wrapped.named_parameters():
            if "lora_B" in name:
                weight.normal_(0, 0.2)
    wrapped.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    return folder
