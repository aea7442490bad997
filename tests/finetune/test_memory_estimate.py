from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest
import torch
import transformers

from finetune.adapters.methods import attach, trainable
from finetune.data.rows import Row
from finetune.memory.estimate import (
    Sizes,
    dummy_rows,
    free_bytes,
    model_sizes,
    peak_bytes,
    plan_memory,
)
from finetune.training.attention import rows_apart
from finetune.training.packing import pack_rows
from finetune.training.settings import METHODS, TrainingArguments
from finetune.training.tokenize import Encoded


def config(layers: int = 3, **settings: Any) -> Any:
    shape = {
        "vocab_size": 500,
        "hidden_size": 64,
        "intermediate_size": 160,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "tie_word_embeddings": True,
    }
    return transformers.Qwen2Config(**(shape | settings), num_hidden_layers=layers)


def made(**settings: Any) -> Sizes:
    """Sizes of a round model: 1 KB per token and layer."""
    figures: dict[str, Any] = {
        "weights": 10**6,
        "trained": 1000,
        "linear": 10**5,
        "body": 8 * 10**5,
        "kept": 1000.0,
        "always": 0.0,
        "working": 500.0,
        "hidden": 64,
        "widest": 160,
        "vocabulary": 500,
        "layers": 10,
        "itemsize": 4,
    }
    return Sizes(**(figures | settings))


def test_peak_grows_with_tokens_and_falls_with_recomputation() -> None:
    found = model_sizes(config(), TrainingArguments())
    assert found.peak(200, 8, False) > found.peak(100, 8, False) > found.weights
    assert found.peak(200, 8, True) < found.peak(200, 8, False)


def test_logits_count_where_they_are_more_than_the_work_of_a_layer() -> None:
    found = made()
    assert found.activations(100, 8, False) == found.activations(100, 1, False)
    assert found.activations(100, 100, False) == 10_000 * 100 + 500 * 4 * (100 + 64)


@pytest.mark.parametrize("method", sorted(set(METHODS) - {"qlora"}))
def test_counts_are_those_of_the_live_model(method: str) -> None:
    settings = TrainingArguments(method=method)
    base = transformers.Qwen2ForCausalLM(config())
    weights = sum(p.nbytes for p in base.parameters())
    body = sum(p.nbytes for p in base.model.layers.parameters())
    trained = sum(p.numel() for p in trainable(attach(base, settings)).values())
    found = model_sizes(config(), settings)
    assert found.trained == trained
    assert found.weights == weights + 4 * trained
    assert found.body == body


def test_settings_change_what_is_held() -> None:
    plain = model_sizes(config(), TrainingArguments())
    assert model_sizes(config(), TrainingArguments(dtype="bfloat16")).kept < plain.kept
    assert model_sizes(config(), TrainingArguments(rank=64)).trained == 4 * plain.trained
    four_bit = model_sizes(config(), TrainingArguments(method="qlora", dtype="bfloat16"))
    assert four_bit.weights < model_sizes(config(), TrainingArguments(dtype="bfloat16")).weights


def test_who_shares_the_layers_out_holds_a_part_of_them() -> None:
    whole = model_sizes(config(8), TrainingArguments())
    assert whole.shared(1) == whole
    # Of eight layers a quarter, and two that are in use.
    four = whole.shared(4)
    assert whole.weights - four.weights == pytest.approx(whole.body * (3 / 4 - 2 / 8))
    assert four.trained == whole.trained


def test_counting_leaves_random_numbers_alone() -> None:
    torch.manual_seed(5)
    wanted = torch.rand(3)
    torch.manual_seed(5)
    model_sizes(config(), TrainingArguments())
    assert torch.equal(torch.rand(3), wanted)


@pytest.mark.parametrize("method", ["lora", "dora"])
def test_what_is_kept_is_within_15_per_cent_of_a_true_pass(method: str) -> None:
    settings = TrainingArguments(method=method)
    live = attach(transformers.Qwen2ForCausalLM(config(4)), settings).train()
    rows = [Encoded(tuple(range(n)), n - 4, Row("", "", "")) for n in (120, 110, 100, 90)]
    pack = pack_rows(rows)
    owned = {p.data_ptr() for p in live.parameters()}
    kept: dict[int, Any] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        if tensor.data_ptr() not in owned:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda t: t), rows_apart(live):
        live(input_ids=pack.ids, use_cache=False, logits_to_keep=pack.logit_positions, **pack.extra)
    found = model_sizes(config(4), settings)
    predicted = found.layers * found.kept * 420
    assert predicted == pytest.approx(sum(s.nbytes() for s in kept.values()), rel=0.15)


@pytest.mark.parametrize("recompute", [True, False])
def test_settings_decide_the_plan(recompute: bool) -> None:
    settings = TrainingArguments(micro_batch=300, checkpointing=recompute)
    limits, chosen = plan_memory(made(), settings, 100, "cpu")
    assert (limits.tokens, chosen) == (300, recompute)


def test_activations_are_kept_while_the_longest_row_fits() -> None:
    assert plan_memory(made(), TrainingArguments(), 100, "cpu")[1] is False
    free = free_bytes("cpu")
    limits, recompute = plan_memory(made(kept=free / 800), TrainingArguments(), 100, "cpu")
    assert recompute
    assert limits.tokens >= 100


def test_the_automatic_batch_fits_free_memory() -> None:
    found = made(kept=free_bytes("cpu") / 4000)
    limits, recompute = plan_memory(found, TrainingArguments(checkpointing=False), 100, "cpu")
    assert not recompute
    assert 100 <= limits.tokens < 512
    assert found.activations(limits.tokens, limits.trained, False) < free_bytes("cpu")


@pytest.mark.parametrize(
    ("kept", "tokens"), [(1e2, 2048), (2**28 / 10_000, 1000), (1e5, 512), (0, 2048)]
)
def test_on_a_processor_packs_are_no_larger_than_is_of_use(kept: float, tokens: int) -> None:
    assert (
        plan_memory(made(kept=kept), TrainingArguments(checkpointing=False), 10, "cpu")[0].tokens
        == tokens
    )


def test_a_row_longer_than_is_of_use_still_goes_through() -> None:
    assert plan_memory(made(), TrainingArguments(), 5000, "cpu")[0].tokens == 5000


def test_free_and_peak_memory_are_plausible() -> None:
    assert 2**20 < peak_bytes("cpu") < 2**45
    assert 0 < free_bytes("cpu") < 2**45


@pytest.mark.skipif(sys.platform != "linux", reason="glibc's allocator")
def test_freed_blocks_leave_the_process() -> None:
    """In a process of its own: what other tests freed would serve these blocks."""
    code = """
import resource
from finetune.memory.estimate import return_freed

def resident():
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()

return_freed()
bytes(2**24)  # left to itself, glibc now keeps all blocks of up to this size
before = resident()
large = [b"x" * 2**22 for _ in range(16)]
print(resident() - before)
del large[:-1]  # what lies below the last would stay
print(resident() - before)
"""
    made = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    held, left = map(int, made.stdout.split())
    assert held > 32 * 2**20
    assert left < 8 * 2**20


def test_stand_ins_have_the_lengths_asked_for() -> None:
    assert [(len(e.ids), e.trained) for e in dummy_rows([(7, 2), (3, 1)])] == [(7, 2), (3, 1)]


def test_sizes_are_those_of_the_model_whatever_the_batch() -> None:
    settings = TrainingArguments(batch=4)
    assert model_sizes(config(), settings) == model_sizes(config(), replace(settings, batch=64))
