"""Randomly initialised models of Qwen2.5's true shapes, and its tokenizer from a mirror.

The shapes are those of the published configurations of Qwen2.5-0.5B and Qwen2.5-3B.
"""

from __future__ import annotations

import gzip
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

from benchmarks.prompts import PromptBuilder, PromptFormat
from benchmarks.tasks.mmlu import SUBJECTS
from benchmarks.tasks.registry import load_task
from domainlift.sampling import stratified
from domainlift.types import Treatment
from engines.base import Mode
from finetune.memory.estimate import synchronize
from knowledge_bases.domains import load_domains

SHAPES: dict[str, dict[str, Any]] = {
    "0.5b": {
        "hidden_size": 896,
        "intermediate_size": 4864,
        "num_hidden_layers": 24,
        "num_attention_heads": 14,
        "num_key_value_heads": 2,
    },
    "3b": {
        "hidden_size": 2048,
        "intermediate_size": 11008,
        "num_hidden_layers": 36,
        "num_attention_heads": 16,
        "num_key_value_heads": 2,
    },
}
_VOCABULARY = 151_936
_SEED = 7


def mirror() -> Path:
    """The folder of BENCH_DATA; ends the script where there is none."""
    folder = os.environ.get("BENCH_DATA")
    if folder is None or not (Path(folder) / "mmlu").is_dir():
        sys.exit("error: set BENCH_DATA to a mirror that holds mmlu/ and qwen25_tokenizer/")
    return Path(folder)


def tokenizer() -> Any:
    """Qwen2.5's tokenizer, read from the mirror."""
    packed = mirror() / "qwen25_tokenizer" / "tokenizer.json.gz"
    raw = Tokenizer.from_str(gzip.decompress(packed.read_bytes()).decode("utf-8"))
    return PreTrainedTokenizerFast(
        tokenizer_object=raw, eos_token="<|endoftext|>", pad_token="<|endoftext|>"
    )


def model(shape: str, *, layers: int | None, device: str, dtype: str) -> Any:
    """A model with random weights; the same numbers for the same arguments on one machine."""
    settings = dict(SHAPES[shape])
    if layers is not None:
        settings["num_hidden_layers"] = layers
    torch.manual_seed(_SEED)
    config = Qwen2Config(
        vocab_size=_VOCABULARY,
        max_position_embeddings=32_768,
        tie_word_embeddings=True,
        rope_parameters={"rope_type": "default", "rope_theta": 1e6},
        dtype=dtype,
        attn_implementation="sdpa",
        **settings,
    )
    with torch.device(device):
        made = Qwen2ForCausalLM(config)
    return made.to(getattr(torch, dtype)).eval()


def requests(subjects: int, per_subject: int | None, shots: int = 5) -> list[Any]:
    """Letter requests on real MMLU questions; `subjects` are spread over the alphabet."""
    domains = load_domains()
    names = sorted(SUBJECTS)[:: max(1, len(SUBJECTS) // subjects)][:subjects]
    made = []
    for name in names:
        task = load_task(f"mmlu:{name}", data=mirror(), domains=domains)
        prompter = PromptBuilder(task, PromptFormat(Mode.LETTER, shots, chat=False))
        limit = per_subject if per_subject is not None else len(task.questions)
        chosen = stratified(task.questions, limit, seed=0)
        made += [prompter.request(question, Treatment()) for question in chosen]
    return made


def matrix_rate(device: str, dtype: str) -> float:
    """Measured FLOP/s of one large matrix product, the best of five."""
    size = 8192 if device.startswith("cuda") else 2048
    a = torch.randn(size, size, device=device, dtype=getattr(torch, dtype))
    best = 0.0
    for _ in range(5):
        synchronize(device)
        start = time.perf_counter()
        for _ in range(4):
            a @ a
        synchronize(device)
        best = max(best, 4 * 2 * size**3 / (time.perf_counter() - start))
    return best
