"""Shared by the tests of this package: a small random base model, and adapters for it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

Make = Callable[..., Path]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("filterwarnings", "ignore:.*deprecated.*:FutureWarning")


@pytest.fixture(scope="session")
def random_base() -> Make:
    """Make a folder with a random model of an architecture and the embedded tokenizer."""
    import torch
    import transformers

    from engines.registry import tiny_folder

    def make(folder: Path, kind: str = "Qwen2", seed: int = 0, **settings: Any) -> Path:
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

    return make


@pytest.fixture(scope="session")
def base_folder(random_base: Make, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random Qwen2 of two layers."""
    return random_base(tmp_path_factory.mktemp("base") / "qwen2")


@pytest.fixture(scope="session")
def random_adapter() -> Make:
    """Make a folder with a random adapter for a base, as PEFT writes it."""
    import peft
    import torch

    from engines.local.loading import load_model

    def make(folder: Path, base: Path, seed: int = 0, **settings: Any) -> Path:
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

    return make


@pytest.fixture
def base_model(base_folder: Path) -> tuple[Any, Any]:
    """A small random model and its tokenizer, for one test."""
    from engines.local.loading import load_model

    return load_model(str(base_folder), device="cpu")
